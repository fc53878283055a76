"""One item sent by a library call is the same point of a sweep."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import UNCODED, MeanSquaredError, Uncoded, picture, pictures

import semcom
from channels import AWGN
from semcom import names
from semcom.data import load_image, to_picture
from semcom.errors import BudgetExceeded, InvalidOption, InvalidSource, SemcomError, SweepError, UnknownName
from semcom.metrics import PSNR
from semcom.results import TIMING, Record, ResultStore
from semcom.scheme import Scheme
from semcom.sweep import Sweep, run
from semcom.transmission import ChannelKnowledge, Sent


def outcome(record: Record) -> Record:
    return replace(record, **dict.fromkeys(TIMING, 0.0))


def in_a_sweep(sweep: Sweep, folder: Path) -> list[Record]:
    with ResultStore(folder / "records.sqlite") as store:
        return [outcome(record) for record in run(sweep, store)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    to_picture(picture("photo", 48, 64).x).save(path)
    return path


@pytest.mark.parametrize("scheme", ["jpeg+ldpc:mcs5", "avif+ldpc", "softcast", "deepjscc", "uncoded"])
def test_a_sending_is_that_point_of_a_sweep(scheme: str, path: Path, tmp_path: Path) -> None:
    """By file and names, by item and objects; among other SNRs, seeds and items in the sweep."""
    chosen = UNCODED if scheme == "uncoded" else names.scheme(scheme)
    item = load_image(path)
    channels = (names.channel("awgn"), names.channel("rayleigh:64"))
    grid = ((0.0, 7.0, 20.0), ("1/2", "1/12"), (PSNR(), MeanSquaredError()), (0, 3))
    records = in_a_sweep(Sweep((chosen,), channels, (*pictures(1, 16), item), *grid), tmp_path)
    (expected,) = (
        r
        for r in records
        if (r.channel, r.item, r.snr_db, r.budget_uses, r.seed)
        == ("rayleigh:64", item.id, 7.0, 48 * 64 * 3 // 2, 3)
    )
    by_name = UNCODED if scheme == "uncoded" else scheme
    metrics = ("psnr_db", MeanSquaredError())
    for source, sent_by, medium, ratio in (
        (path, by_name, "rayleigh:64", "1/2"),
        (str(path), by_name, channels[1], 0.5),
        (item, chosen, channels[1], "0.5"),
    ):
        sending = semcom.send(source, sent_by, medium, 7.0, ratio, 3, metrics)
        assert outcome(sending.record) == expected
        assert sending.item.id == item.id
        assert sending.metrics == {name: expected.numbers[name] for name in ("psnr_db", "mse")}
        assert sending.outcome.channel_uses == expected.channel_uses <= expected.budget_uses
        assert sending.outcome.x_hat.shape == item.x.shape


def test_defaults_are_the_digital_scheme_and_metrics_that_work_here(path: Path) -> None:
    sending = semcom.send(path)
    record = sending.record
    assert (record.scheme, record.channel, record.snr_db) == ("avif+ldpc:csit-average", "awgn", 10.0)
    assert (record.budget_uses, record.seed, record.modality) == (48 * 64 * 3 // 12, 0, "image")
    fitting = [m.name for m in names.default_metrics().metrics if m.fits((1, 3, 48, 64))]
    assert list(sending.metrics) == fitting
    assert "psnr_db" in fitting


class Bare:
    """A third-party transmission that knows nothing of this package's classes but its protocol."""

    name, csit = "bare", "none"

    def __init__(self, share: float = 1.0) -> None:
        self.share = share

    def send(self, x: torch.Tensor, uses: int, known: ChannelKnowledge | None) -> Sent:
        assert known is None
        whole = Uncoded().send(x, 10**9, None)
        return replace(whole, symbols=whole.symbols[:, : int(self.share * uses)])

    receive = Uncoded().receive


def test_a_scheme_of_another_package_is_sent_and_measured(path: Path) -> None:
    """E mse = N0/4 of values that noise does not clip; 48*64*3 of them."""
    item = load_image(path)
    scheme = replace(UNCODED, name="bare", transmission=Uncoded(name="bare"))
    sending = semcom.send(item, scheme, AWGN(), 40.0, 0.5, metrics=(MeanSquaredError(),))
    n0, values = 1e-4, item.x.numel()
    assert abs(sending.metrics["mse"] - n0 / 4) < 5 * n0 / 4 * math.sqrt(2 / values)
    assert sending.record.scheme == "bare"
    assert sending.record.channel_uses == values // 2


def test_what_has_no_fingerprint_is_one_line(path: Path) -> None:
    scheme = Scheme("bare", Bare(), UNCODED.receiver)
    with pytest.raises(InvalidOption, match="no canonical form; make it a frozen dataclass"):
        semcom.send(path, scheme, rho=0.5)


def test_a_loss_is_no_error(path: Path) -> None:
    item = load_image(path)
    sending = semcom.send(item, UNCODED, rho="1/4", metrics=(PSNR(),))
    assert sending.outcome.outage
    assert sending.record.outage == 1
    assert sending.record.cause == "4608 uses needed, 2304 allowed"
    assert (sending.record.channel_uses, sending.record.energy) == (0, 0.0)
    assert torch.equal(sending.outcome.x_hat, item.modality.cover(item.modality.shape(item.x)))


class Fails(Uncoded):
    """Does not do what it should."""

    def send(self, x: torch.Tensor, uses: int, known: ChannelKnowledge | None) -> Sent:
        if self.name == "raises":
            raise ZeroDivisionError("division\nby zero")
        sent = super().send(x, uses, known)
        return replace(sent, symbols=sent.symbols * 3)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"scheme": "softcats"}, UnknownName, "did you mean softcast"),
        ({"channel": "raleigh:64"}, UnknownName, "did you mean rayleigh:64"),
        ({"metrics": ("psnr",)}, UnknownName, "no metric called 'psnr'"),
        ({"metrics": (PSNR(), "psnr_db")}, InvalidOption, "metric psnr_db is twice"),
        ({"snr_db": math.nan}, InvalidOption, "SNR of nan dB"),
        ({"snr_db": math.inf}, InvalidOption, "SNR of inf dB"),
        ({"rho": 0.0}, InvalidOption, "rho of 0.0 is outside"),
        ({"seed": -1}, InvalidOption, "seed of -1"),
        ({"seed": 2**63}, InvalidOption, "seed of 9223372036854775808"),
        ({"source": "nowhere.png"}, InvalidSource, "nowhere.png: no such file"),
        (
            {"scheme": replace(UNCODED, name="loud", transmission=Fails(name="loud")), "rho": 0.5},
            BudgetExceeded,
            r"^loud on photo-\w+, awgn, rho 0.5 \(4608 channel uses\), seed 0: loud sent energy",
        ),
        (
            {"scheme": replace(UNCODED, name="wild", transmission=Fails(name="raises")), "rho": 0.5},
            SweepError,
            r"^wild on photo-\w+, awgn, .*: ZeroDivisionError: division$",
        ),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: dict[str, object], kind: type[SemcomError], message: str, path: Path
) -> None:
    given = {"source": path, "scheme": UNCODED, **arguments}
    with pytest.raises(kind, match=message) as error:
        semcom.send(**given)
    assert "\n" not in str(error.value)
