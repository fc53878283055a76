"""Sentences say what hand-made records hold: winners, leads, doubts, losses, and what transmitters know."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from semcom.columns import Column
from semcom.findings import findings
from semcom.metrics.catalogue import SHIPPED_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

FIXED, ADAPTED, BOUND = "avif+ldpc:mcs6", "avif+ldpc:csit-average", "avif+ideal:csit-average"
ANALOG, OTHER = "softcast", "deepjscc"
COLUMNS = {**SHIPPED_COLUMNS, "sharpness": Column("sharpness", "lines", True), "odd": Column("odd")}


def frame(
    values: Mapping[str, Sequence[float]],
    metric: str = "psnr_db",
    *,
    lost: Mapping[str, int] | None = None,
    snr_db: float = 0.0,
    rho: float = 1 / 48,
    modality: str = "image",
    channel: str = "awgn",
) -> "pd.DataFrame":
    """Records at one point: name of a scheme to its metric, item by item, the first ones lost."""
    import pandas as pd

    return pd.DataFrame(
        {
            **{
                "scheme": scheme,
                "channel": channel,
                "rho": rho,
                "snr_db": snr_db,
                "item": f"i{i}",
                "seed": 0,
            },
            **{"outage": int(i < (lost or {}).get(scheme, 0)), metric: value, "modality": modality},
        }
        for scheme, numbers in values.items()
        for i, value in enumerate(numbers)
    )


def together(frames) -> "pd.DataFrame":
    import pandas as pd

    return pd.concat(list(frames))


def said(records: "pd.DataFrame", metrics: Sequence[str] = ("psnr_db",)) -> str:
    (finding,) = findings(records, metrics, COLUMNS).points
    return finding.sentence


def test_winner_lead_and_what_the_other_does_not_know() -> None:
    records = frame({ADAPTED: [30, 32.0, 31], OTHER: [28, 30.0, 29], FIXED: [9, 9.0, 9]}, lost={FIXED: 3})
    assert said(records) == (
        "At 0 dB, avif+ldpc:csit-average has the highest PSNR (31.00 dB), 2.00 dB [2.00, 2.00] above "
        "deepjscc, which is not told the SNR; avif+ldpc:mcs6 lost every picture."
    )


def test_lead_over_one_that_knows_more() -> None:
    assert "softcast, although that is told the SNR" not in said(frame({OTHER: [30, 31.0], ANALOG: [1, 2.0]}))
    records = frame({OTHER: [30, 32.0, 31], ADAPTED: [28, 30.0, 29]})
    assert "above avif+ldpc:csit-average, although that is told the SNR" in said(records)
    records = frame({OTHER: [30, 32.0, 31], "theirs": [28, 30.0, 29]})
    assert "above theirs, whose transmitter may know other things" in said(records)


def test_doubtful_leads_are_called_so() -> None:
    records = frame({FIXED: [30, 32, 28, 31.0], ANALOG: [31, 30, 29, 30.0]})
    sentence = said(records)
    assert "has the highest PSNR (30.25 dB), but not significantly: 0.25 dB [" in sentence
    assert "[\N{MINUS SIGN}" in sentence


def test_second_of_the_same_family_that_is_as_good() -> None:
    values = {
        FIXED: [30, 32, 28, 31.0],
        "jpeg+ldpc:mcs6": [30.1, 31.8, 28.1, 30.9],
        ANALOG: [20, 22, 18, 21.0],
    }
    assert "above softcast (jpeg+ldpc:mcs6 is not significantly worse)" in said(frame(values))


def test_lower_is_better_where_the_metric_says_so() -> None:
    records = frame({FIXED: [0.5, 0.6, 0.55], ANALOG: [0.3, 0.4, 0.35]}, "wer", modality="text")
    assert "softcast has the lowest word error rate (0.350), 0.200 [0.200, 0.200] below" in said(
        records, ["wer"]
    )


def test_other_metrics_are_named_in_short() -> None:
    records = frame({FIXED: [30, 32.0, 31], ANALOG: [28, 30.0, 29]})
    records["lpips_squeeze"] = [0.5, 0.6, 0.5, 0.1, 0.2, 0.1]
    records["swd"] = [10.0, 11, 12, 20, 21, 22]
    sentence = said(records, ["psnr_db", "swd", "lpips_squeeze"])
    assert "; lowest LPIPS: softcast (0.133); also the lowest SWD (11.0)." in sentence


def test_one_item_one_scheme_and_ties() -> None:
    assert "10.00 dB above softcast (one picture: no interval)" in said(
        frame({FIXED: [30.0], ANALOG: [20.0]})
    )
    assert said(frame({ANALOG: [20.0, 21]})) == (
        "At 0 dB, softcast has a PSNR of 20.50 dB; no other scheme was measured there."
    )
    tie = frame({FIXED: [30.0, 31], ANALOG: [30.0, 31]})
    assert said(tie) == "At 0 dB, avif+ldpc:mcs6 and softcast have the same PSNR (30.50 dB)."
    two = frame({FIXED: [30.0, 31], ANALOG: [30.0, 31], OTHER: [20.0, 22]})
    assert "avif+ldpc:mcs6 and softcast share the highest PSNR (30.50 dB)" in said(two)


def test_losses_are_named() -> None:
    everything = frame({FIXED: [9.0, 9], ANALOG: [9.0, 9]}, lost={FIXED: 2, ANALOG: 2})
    assert said(everything) == "At 0 dB, every scheme lost every picture; nothing is compared."
    alone = frame({FIXED: [9.0, 9]}, lost={FIXED: 2}, modality="video")
    assert said(alone) == "At 0 dB, avif+ldpc:mcs6 lost every clip; nothing is compared."
    some = frame({FIXED: [9.0, 30, 31], ANALOG: [20.0, 21, 22]}, lost={FIXED: 1})
    assert said(some).endswith("; avif+ldpc:mcs6 lost 33 % of the pictures.")


def test_rare_losses_are_not_rounded_to_none() -> None:
    records = frame({FIXED: [30.0] * 400, ANALOG: [20.0] * 400}, lost={FIXED: 1})
    assert "lost 0.25 % of the pictures" in said(records)


def test_without_a_direction_nothing_is_called_better() -> None:
    records = frame({FIXED: [30.0, 31], ANALOG: [20.0, 21]}, "odd")
    assert said(records, ["odd"]) == (
        "At 0 dB, nothing is compared: no metric was measured whose better direction is known."
    )


def test_metrics_of_other_packages_have_name_and_unit() -> None:
    records = frame({FIXED: [3000.0, 3100], ANALOG: [2000.0, 2100]}, "sharpness", modality="waveform")
    assert said(records, ["sharpness"]).startswith(
        "At 0 dB, avif+ldpc:mcs6 has the highest sharpness (3050 lines), 1000 lines ["
    )


def test_values_that_are_missing_do_not_stop_the_sentences() -> None:
    records = frame({FIXED: [float("nan")] * 2, ANALOG: [20.0, 21]})
    assert "softcast has a PSNR of 20.50 dB" in said(records)
    assert "nothing is compared" in said(frame({FIXED: [float("nan")] * 2, ANALOG: [float("nan")] * 2}))


def plane(winner, snrs=(0.0, 5.0, 10.0), rhos=(1 / 12, 1 / 48)) -> "pd.DataFrame":
    """Records in which `winner(snr, rho)` is best by one decibel."""
    return together(
        frame(
            {
                name: [30 + (name == winner(snr, rho)) + i for i in range(3)]
                for name in (FIXED, ANALOG, OTHER)
            },
            snr_db=snr,
            rho=rho,
        )
        for snr in snrs
        for rho in rhos
    )


@pytest.mark.parametrize(
    ("winner", "sentence"),
    [
        (lambda snr, rho: FIXED, "Digital schemes have the highest PSNR at all 6 operating points."),
        (
            lambda snr, rho: OTHER if snr == 0 else FIXED,
            "Digital schemes have the highest PSNR at 4 of 6 operating points (5 and 10 dB) and analog "
            "schemes at 2 (0 dB).",
        ),
        (
            lambda snr, rho: OTHER if rho < 0.05 else FIXED,
            "Analog schemes have the highest PSNR at 3 of 6 operating points (ρ = 1/48) and digital schemes "
            "at 3 (ρ = 1/12).",
        ),
        (
            lambda snr, rho: OTHER if (rho < 0.05 and snr < 10) or snr == 0 else FIXED,
            "Analog schemes have the highest PSNR at 3 of 6 operating points (ρ = 1/12 at 0 dB; ρ = 1/48 at "
            "0 and 5 dB) and digital schemes at 3 (ρ = 1/12 at 5 and 10 dB; ρ = 1/48 at 10 dB).",
        ),
    ],
)
def test_headlines_count_and_locate_the_winners(winner, sentence) -> None:
    found = findings(plane(winner), ["psnr_db"])
    assert [headline.sentence for headline in found.headlines] == [sentence]
    detail = "".join(map(str, found.headlines[0].detail))
    assert detail.endswith("; the lead over the best of another family is significant at all 6 points")
    assert detail.startswith("won by ")
    assert len(found.points) == 6
    assert [point.rho for point in found.points] == [1 / 12] * 3 + [1 / 48] * 3


def test_metrics_with_the_same_winners_share_a_headline() -> None:
    records = plane(lambda snr, rho: OTHER if snr == 0 else FIXED)
    records["swd"] = 100 - records["psnr_db"]
    records["lpips_squeeze"] = records["psnr_db"]
    found = findings(records, ["psnr_db", "swd", "lpips_squeeze"]).headlines
    assert found[0].sentence.startswith("Digital schemes have the highest PSNR and lowest SWD at 4 of 6")
    assert "".join(map(str, found[0].detail)).endswith(
        "won by avif+ldpc:mcs6 at 4 points, deepjscc at 2; the lead over the best of another family is "
        "significant at all 6 points in PSNR and at all 6 in SWD"
    )
    assert len(found) == 2


def test_headlines_say_where_transmitters_know_different_things() -> None:
    records = together(
        frame({ADAPTED: [30.0, 31 + snr, 32], FIXED: [29.0, 30, 31], OTHER: [28.0, 29, 30]}, snr_db=snr)
        for snr in (0.0, 5.0)
    )
    (headline,) = findings(records, ["psnr_db"]).headlines
    assert "".join(map(str, headline.detail)).endswith(
        "; at 2 points the winner is told the SNR and the best of another family is not"
    )


def test_details_count_points_in_words_that_need_no_key() -> None:
    """One significant lead, one doubtful, and a point without another family."""
    clear, doubtful = (
        {FIXED: [30.0, 31, 32], ANALOG: [20.0, 21, 22]},
        {FIXED: [30.0, 33, 30], ANALOG: [31.5, 30, 32]},
    )
    alone = {FIXED: [30.0, 31, 32], "jpeg+ldpc:mcs6": [20.0, 21, 22]}

    def detail(*values: Mapping[str, Sequence[float]]) -> str:
        records = together(frame(value, snr_db=5.0 * i) for i, value in enumerate(values))
        (headline,) = findings(records, ["psnr_db"]).headlines
        return "".join(map(str, headline.detail))

    lead = "; the lead over the best of another family is significant at "
    assert detail(clear, doubtful) == f"won by avif+ldpc:mcs6 at 1 point, softcast at 1{lead}1 of 2 points"
    assert detail(doubtful, doubtful).endswith(f"{lead}none of 2 points")
    assert detail(clear, alone).endswith(f"{lead}the one point that has one")
    assert detail(clear, clear, alone).endswith(f"{lead}2 of the 2 points that have one")


def test_headlines_of_one_family_are_about_schemes() -> None:
    records = together(
        frame({ANALOG: [20 + (snr > 0), 21.0, 22], OTHER: [20.5, 21.5, 22.5]}, snr_db=snr)
        for snr in (0.0, 5.0)
    )
    (headline,) = findings(records, ["psnr_db"]).headlines
    assert headline.sentence == "deepjscc has the highest PSNR at all 2 operating points."


def test_headlines_say_what_was_lost() -> None:
    records = together(
        frame({FIXED: [9.0, 9], ANALOG: [20.0, 21]}, lost={FIXED: 2, ANALOG: 2 if snr < 0 else 0}, snr_db=snr)
        for snr in (-5.0, 0.0)
    )
    first, second = findings(records, ["psnr_db"]).headlines
    assert first.sentence == (
        "Analog schemes have the highest PSNR at the one operating point of 2 at which something arrived "
        "(0 dB)."
    )
    assert second.sentence == (
        "Every scheme lost every picture at 1 of 2 operating points (-5 dB); avif+ldpc:mcs6 at 1 more (0 dB)."
    )


def test_caveats() -> None:
    records = frame({ADAPTED: [30.0, 31], OTHER: [20.0, 21], BOUND: [40.0, 41]})
    told = ["".join(map(str, words)) for words in findings(records, ["psnr_db"]).caveats]
    assert told == [
        "Only 2 pictures: this shows how things behave, not by how much.",
        "The transmitters of avif+ldpc:csit-average are told the average SNR, the others are not: where they "
        "meet, the comparison is not on equal terms.",
        "avif+ideal:csit-average is a bound and does not take part.",
    ]
    assert findings(frame({OTHER: [20.0] * 20, ANALOG: [21.0] * 20}), ["psnr_db"]).caveats == ()
