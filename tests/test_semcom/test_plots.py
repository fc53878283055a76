"""Figures show what the records hold."""

import numpy as np
import pytest

from semcom.errors import InvalidOption, UnknownName
from semcom.plots import (
    COLORS,
    KnobCurve,
    ReferenceLine,
    figure_bytes,
    frontier_schemes,
    knob_curves,
    metric_of_schemes,
    metric_vs_rho,
    metric_vs_snr,
    perception_distortion,
    scheme_styles,
)

SCHEMES = ("avif+ldpc", "softcast")
SNRS = (0.0, 5.0, 10.0)


@pytest.fixture
def records():
    import pandas as pd

    return pd.DataFrame(
        {
            "scheme": scheme,
            "channel": channel,
            "item": f"item{i}",
            "seed": seed,
            "snr_db": snr,
            "rho": rho,
            "rho_used": rho * (0.8 if scheme == "avif+ldpc" else 1),
            "outage": int(scheme == "avif+ldpc" and snr == 0 and i == 0),
            "psnr_db": 30 + i + snr / 5 + 100 * rho,
            "swd": 100 - snr + i,
        }
        for scheme in SCHEMES
        for channel in ("awgn", "rayleigh:64")
        for i in range(4)
        for seed in range(2)
        for snr in SNRS
        for rho in (1 / 48, 1 / 12)
    )


def saved(figure):
    """Draw it, as a caller would."""
    assert len(figure_bytes(figure, "png")) > 5000
    return figure


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_snr_curve_is_the_mean_over_items_and_seeds(records):
    figure = saved(metric_vs_snr(records, "psnr_db", "1/48", "awgn"))
    x, y = lines(figure.axes[0])["softcast"].get_data()
    assert list(x) == list(SNRS)
    assert y == pytest.approx([31.5 + snr / 5 + 100 / 48 for snr in SNRS])
    assert "1/48" in figure.axes[0].get_title(loc="left")
    assert "dB" in figure.axes[0].get_ylabel()


def test_outages_are_open_markers_and_a_second_panel(records):
    figure = metric_vs_snr(records, "psnr_db", "1/48", "awgn")
    axes, lower = figure.axes
    hollow = [line for line in axes.get_lines() if line.get_markerfacecolor() == "white"]
    assert [list(line.get_xdata()) for line in hollow if len(line.get_xdata())] == [[0.0]]
    (rate,) = (line for line in lower.get_lines() if len(line.get_xdata()) == 3)
    assert list(rate.get_ydata()) == [0.25, 0, 0]
    clean = metric_vs_snr(records[records["outage"] == 0], "psnr_db", "1/48", "awgn")
    assert len(clean.axes) == 1


def test_legend_says_who_leaves_channel_uses_unused(records):
    assert legend(metric_vs_snr(records, "psnr_db", "1/48", "awgn")) == ["avif+ldpc  (80% of k)", "softcast"]


def test_points_lie_at_the_rho_used(records):
    figure = saved(metric_vs_rho(records, "psnr_db", 10.0, "rayleigh:64"))
    curves = lines(figure.axes[0])
    assert curves["avif+ldpc"].get_xdata() == pytest.approx([0.8 / 48, 0.8 / 12])
    assert curves["softcast"].get_xdata() == pytest.approx([1 / 48, 1 / 12])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1/48", "1/12"]


def test_plane_has_one_point_per_scheme(records):
    figure = saved(perception_distortion(records, "1/48", 0.0, "awgn"))
    points = {c.get_label(): c.lines[0].get_data() for c in figure.axes[0].containers}
    assert set(points) == {"avif+ldpc  (outage 25%)", "softcast"}
    x, y = points["softcast"]
    assert (x[0], y[0]) == pytest.approx((31.5 + 100 / 48, 101.5))


def test_settings_of_a_knob_are_found_by_name():
    names = ("jscc+ddrm:8", "jscc+ddrm:8:0.25", "jscc", "avif+ldpc:mcs8", "jscc+ddrm:8:1:4", "jscc+dps:8")
    expected = [
        KnobCurve("jscc+ddrm:8, knob 0 to 1", ("jscc", "jscc+ddrm:8:0.25", "jscc+ddrm:8"), ("", "0.25", "1")),
        KnobCurve("jscc+ddrm:8, samples averaged 1 to 4", ("jscc+ddrm:8", "jscc+ddrm:8:1:4"), ("1", "4")),
        KnobCurve("jscc+ddrm:8, 4 samples, knob 0 to 1", ("jscc", "jscc+ddrm:8:1:4"), ("", "1")),
        KnobCurve("jscc+dps:8, knob 0 to 1", ("jscc", "jscc+dps:8"), ("", "1")),
    ]
    assert sorted(knob_curves(names), key=str) == sorted(expected, key=str)


def test_plane_connects_a_knob_and_the_frontier(records):
    import pandas as pd

    decoded = records[records["scheme"] == "softcast"]
    refined = decoded.assign(
        scheme="softcast+ddrm:8", psnr_db=decoded["psnr_db"] - 1, swd=decoded["swd"] - 10
    )
    both = pd.concat((decoded, refined))
    curves = (*knob_curves(both["scheme"]), KnobCurve("not there", ("a", "b"), ("0", "1")))
    figure = saved(perception_distortion(both, "1/48", 0.0, "awgn", curves=curves, frontier=True))
    drawn = lines(figure.axes[0])
    start, end = (31.5 + 100 / 48, 101.5), (30.5 + 100 / 48, 91.5)
    for label in ("softcast+ddrm:8, knob 0 to 1", "interpolated frontier"):
        np.testing.assert_allclose(np.array(drawn[label].get_data()).T, [start, end])
    assert "softcast+ddrm:8" not in legend(figure)
    assert "1" in [text.get_text() for text in figure.axes[0].texts]
    assert frontier_schemes(both, "1/48", 0.0, "awgn") == ["softcast", "softcast+ddrm:8"]
    with pytest.raises(InvalidOption, match="neither more nor less"):
        frontier_schemes(both, "1/48", 0.0, "awgn", perception="rho_used")


def test_reference_lines_are_drawn_and_named(records):
    line = ReferenceLine("AVIF at capacity", SNRS, (35.0, 36.0, 37.0))
    figure = metric_vs_snr(records, "psnr_db", "1/48", "awgn", [line])
    assert list(lines(figure.axes[0])["AVIF at capacity"].get_ydata()) == [35, 36, 37]


def test_a_scheme_keeps_its_color(records):
    styles = scheme_styles(records)
    assert styles == scheme_styles(records.iloc[::-1])
    subset = records[(records["scheme"] == "softcast") | (records["rho"] < 0.05)]
    figure = metric_vs_snr(subset, "psnr_db", "1/12", "awgn")  # only softcast left at this rho
    assert lines(figure.axes[0])["softcast"].get_color() == styles["softcast"].color


def test_styles_are_distinct():
    import pandas as pd

    styles = scheme_styles(pd.DataFrame({"scheme": [f"s{i:02d}" for i in range(3 * len(COLORS))]}))
    assert len(set(styles.values())) == 3 * len(COLORS)


def test_one_item_draws_without_a_band(records):
    saved(metric_vs_snr(records[records["item"] == "item0"], "swd", "1/12", "awgn"))
    saved(perception_distortion(records[records["item"] == "item0"], "1/12", 0.0, "awgn"))


def test_points_that_are_not_there_are_typed_errors(records):
    with pytest.raises(InvalidOption, match="1/7; there are 1/48, 1/12"):
        metric_vs_snr(records, "psnr_db", "1/7", "awgn")
    with pytest.raises(InvalidOption, match="awgn, rayleigh:64"):
        metric_vs_rho(records, "psnr_db", 0.0, "rician")
    with pytest.raises(UnknownName, match="lpips_vgg"):
        metric_vs_snr(records, "lpips_vgg", "1/12", "awgn")


def test_equal_records_give_equal_files(records):
    first, second = (
        figure_bytes(metric_vs_snr(frame, "psnr_db", "1/48", "awgn"), "svg")
        for frame in (records, records.sample(frac=1, random_state=0))
    )
    assert first == second
    assert b"<dc:date>" not in first


def test_drawing_leaves_matplotlib_alone(records):
    import matplotlib

    before = dict(matplotlib.rcParams)
    metric_vs_snr(records, "psnr_db", "1/12", "awgn")
    assert dict(matplotlib.rcParams) == before


def test_schemes_without_the_metric_are_left_out(records):
    lacking = records.assign(swd=records["swd"].where(records["scheme"] == "softcast"))
    for figure in (
        metric_vs_snr(lacking, "swd", "1/48", "awgn"),
        metric_vs_rho(lacking, "swd", 5.0, "awgn"),
        perception_distortion(lacking, "1/48", 5.0, "awgn"),
    ):
        assert legend(figure) == ["softcast"]
    assert frontier_schemes(lacking, "1/48", 5.0, "awgn") == ["softcast"]
    with pytest.raises(InvalidOption, match="no scheme has swd"):
        metric_vs_snr(lacking[lacking["scheme"] != "softcast"], "swd", "1/48", "awgn")


def test_what_was_not_sent_does_not_move_points_over_rho(records):
    some = (records["scheme"] == "avif+ldpc") & (records["rho"] > 1 / 24) & (records["item"] != "item0")
    whole = (records["scheme"] == "avif+ldpc") & (records["rho"] < 1 / 24)
    lost = records.assign(
        rho_used=records["rho_used"].mask(some | whole, 0), outage=records["outage"].mask(some | whole, 1)
    )
    figure = metric_vs_rho(lost, "psnr_db", 10.0, "awgn")
    x, y = lines(figure.axes[0])["avif+ldpc"].get_data()
    assert x == pytest.approx([1 / 48, 0.8 / 12])
    assert y == pytest.approx([33.5 + 100 / 48, 33.5 + 100 / 12])
    (rate,) = (line for line in figure.axes[1].get_lines() if len(line.get_xdata()) == 2)
    assert list(rate.get_ydata()) == [1, 0.75]


def lost_at_zero(records, psnr_db):
    """All items of the digital scheme lost at 0 dB."""
    lost = (records["scheme"] == "avif+ldpc") & (records["snr_db"] == 0)
    return records.assign(
        outage=records["outage"].mask(lost, 1), psnr_db=records["psnr_db"].mask(lost, psnr_db)
    )


@pytest.mark.parametrize(("psnr_db", "marker"), [(8.0, "v"), (80.0, "^")])
def test_outages_do_not_flatten_the_axis(records, psnr_db, marker):
    lost = lost_at_zero(records, psnr_db)
    axes = saved(metric_vs_snr(lost, "psnr_db", "1/48", "awgn")).axes[0]
    arrived = lost[(lost["outage"] == 0) & (lost["channel"] == "awgn") & (lost["rho"] < 1 / 24)]["psnr_db"]
    low, high = axes.get_ylim()
    assert arrived.min() - 1 < low < high < arrived.max() + 1
    (edge,) = (line for line in axes.get_lines() if line.get_marker() == marker and not line.get_clip_on())
    assert edge.get_color() == scheme_styles(lost)["avif+ldpc"].color
    assert list(edge.get_xdata()) == [0.0]
    assert list(edge.get_ydata()) == [low if psnr_db < 20 else high]
    assert f"mostly lost, mean off the axis ({psnr_db:g})" in axes.texts[0].get_text()
    over_rho = metric_vs_rho(lost, "psnr_db", 0.0, "awgn").axes[0]
    assert len([line for line in over_rho.get_lines() if not line.get_clip_on()]) == 2


def test_lost_points_that_are_near_or_alone_are_drawn_to_scale(records):
    near = metric_vs_snr(lost_at_zero(records, 33.0), "psnr_db", "1/48", "awgn").axes[0]
    assert all(line.get_clip_on() for line in near.get_lines())
    everything = records.assign(outage=1, psnr_db=8.0)
    axes = saved(metric_vs_snr(everything, "psnr_db", "1/48", "awgn")).axes[0]
    assert axes.get_ylim()[0] < 8 < axes.get_ylim()[1]
    assert "off the axis" not in axes.texts[0].get_text()


def test_one_point_has_a_row_per_scheme_best_first(records):
    for metric, order in (("psnr_db", ["softcast", "avif+ldpc"]), ("swd", ["avif+ldpc", "softcast"])):
        better = records.assign(
            psnr_db=records["psnr_db"] + (records["scheme"] == "softcast"),
            swd=records["swd"] + (records["scheme"] == "softcast"),
        )
        axes = saved(metric_of_schemes(better, metric, "1/48", 0.0, "awgn")).axes[0]
        names = [label.get_text().split("  ")[0] for label in axes.get_yticklabels()]
        assert names == order
        means = [container.lines[0].get_data() for container in axes.containers]
        here = better[(better["channel"] == "awgn") & (better["snr_db"] == 0) & (better["rho"] < 1 / 24)]
        expected = here.groupby("scheme")[metric].mean()
        assert [float(x[0]) for x, _ in means] == pytest.approx([expected[name] for name in order])
        assert "avif+ldpc  (25% lost)" in [label.get_text() for label in axes.get_yticklabels()]
        assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row on top
    far = lost_at_zero(records, 8.0)
    rows = metric_of_schemes(far, "psnr_db", "1/48", 0.0, "awgn").axes[0]
    (edge,) = (line for line in rows.get_lines() if not line.get_clip_on())
    assert (edge.get_marker(), edge.get_color()) == ("<", scheme_styles(far)["avif+ldpc"].color)
    assert len(metric_of_schemes(records[records["item"] == "item0"], "swd", "1/12", 0.0, "awgn").axes) == 1


def test_families_differ_in_their_lines():
    import pandas as pd

    names = ["avif+ldpc:mcs6", "jpeg+ldpc:mcs6", "softcast", "softcast+ddrm:8", "hybrid:avif:mcs6:softcast"]
    styles = scheme_styles(pd.DataFrame({"scheme": [*names, "avif+ideal", "theirs"]}))
    assert styles["avif+ldpc:mcs6"].dashes == styles["jpeg+ldpc:mcs6"].dashes == ()
    assert len({style.dashes for style in styles.values()}) == 6
    assert len({style.color for style in styles.values()}) == 7
