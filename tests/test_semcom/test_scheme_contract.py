"""What every scheme keeps, those of third parties included."""

import sys
from collections.abc import Callable
from dataclasses import replace
from inspect import unwrap  # what a user meets, whose types nobody checks
from pathlib import Path

import pytest
import torch
from instances import GENERATIVE, SCHEMES, TRANSMISSIONS
from toys import UNCODED, picture

from channels import AWGN, OFDM, Channel, JakesFading, PilotAided, Streams
from semcom.analog import Analog
from semcom.budget import Budget
from semcom.errors import FaultyReceiver, InvalidOption, InvalidSource
from semcom.presets import scheme as scheme_named
from semcom.provenance import fingerprint
from semcom.receivers import Direct
from semcom.receivers.generative import Generative
from semcom.receivers.loop import EncoderInTheLoop
from semcom.scheme import Outcome, Scheme
from semcom.separate import FixedMcs, IdealSeparate, Separate
from semcom.sweep import noise_streams
from semcom.transmission import Observation, concealed

PLAIN = AWGN()
ROOMY = 6000
"""Channel uses that hold any of the small pictures below at any quality."""


def send(
    scheme: Scheme,
    snr_db: list[float],
    seeds: list[int] | None = None,
    uses: int = ROOMY,
    size: tuple[int, int] = (24, 40),
    channel: Channel = PLAIN,
) -> Outcome:
    item = picture("toy", *size)
    items = tuple(noise_streams(item.id, seed).items[0] for seed in seeds or [0] * len(snr_db))
    rng = noise_streams(item.id, 0)
    rng = type(rng)(rng.root, items)
    return scheme.transmit(item.x, Budget(uses, item.x.numel()), channel, torch.tensor(snr_db), rng)


def concealment(scheme: Scheme, size: tuple[int, int]) -> torch.Tensor:
    policy = getattr(scheme.transmission, "concealment", "grey")
    return concealed(policy, (1, 3, *size))[0]


def check_form(scheme: Scheme) -> None:
    for size in ((1, 1), (3, 50), (17, 13), (24, 40)):
        outcome = send(scheme, [60.0, 5.0], size=size)
        assert outcome.x_hat.shape == (2, 3, *size)
        assert 0 <= outcome.x_hat.min() <= outcome.x_hat.max() <= 1
        assert outcome.info["outage"][0] == 0
        for column in outcome.info.values():
            assert column.shape == (2,)
            assert not column.isnan().any()


def check_budget_on_every_kind_of_channel(scheme: Scheme) -> None:
    for channel in (PLAIN, PilotAided(JakesFading(0.01), 9), OFDM()):
        for uses in (1, 50, 1001):
            outcome = send(scheme, [20.0, 0.0], uses=uses, channel=channel)
            assert (outcome.channel_uses <= uses).all()
            assert (outcome.energy <= outcome.channel_uses * (1 + 1e-4)).all()
            assert ((outcome.channel_uses > 0) | (outcome.info["outage"] == 1)).all()


def check_determinism(scheme: Scheme) -> None:
    one, two = send(scheme, [3.0]), send(scheme, [3.0])
    assert torch.equal(one.x_hat, two.x_hat)
    assert {k: v.tolist() for k, v in one.info.items()} == {k: v.tolist() for k, v in two.info.items()}


def check_independence_of_batch_and_order(scheme: Scheme) -> None:
    snr_db, seeds = [8.0, 60.0, 3.0, 8.0], [0, 1, 2, 2]
    whole = send(scheme, snr_db, seeds, uses=700)
    order = [2, 0, 3, 1]
    mixed = send(scheme, [snr_db[i] for i in order], [seeds[i] for i in order], uses=700)
    for place, i in enumerate(order):
        alone = send(scheme, [snr_db[i]], [seeds[i]], uses=700)
        for other in (whole.x_hat[i], mixed.x_hat[place]):
            assert torch.allclose(other, alone.x_hat[0], atol=1e-5)
        for name, column in alone.info.items():
            assert torch.equal(whole.info[name][i], column[0])
        assert whole.causes[i] == mixed.causes[place] == alone.causes[0]


def check_noise_fades_away(scheme: Scheme) -> None:
    """What two noises make of an image differs less at 60 dB than at 0 dB, and hardly at all."""

    def spread(snr_db: float) -> float:
        one, two = send(scheme, [snr_db, snr_db], seeds=[0, 1]).x_hat
        return (one - two).abs().mean().item()

    assert spread(60.0) < 2e-3
    assert spread(60.0) <= spread(0.0)


def check_outage_for_lack_of_room(scheme: Scheme) -> None:
    outcome = send(scheme, [60.0, 0.0], uses=1)
    assert outcome.info["outage"].tolist() == [1, 1]
    assert outcome.channel_uses.tolist() == [0, 0]
    assert outcome.energy.tolist() == [0, 0]
    assert all(outcome.causes)
    assert "\n" not in "".join(outcome.causes)
    for image in outcome.x_hat:
        assert torch.equal(image, concealment(scheme, (24, 40)))


def check_outage_is_concealed(scheme: Scheme) -> None:
    outcome = send(scheme, [-40.0, -20.0])
    for outage, image in zip(outcome.info["outage"], outcome.x_hat, strict=True):
        assert torch.equal(image, concealment(scheme, (24, 40))) == bool(outage)


def check_fingerprint(scheme: Scheme) -> None:
    assert len(fingerprint(scheme)) == 16


def check_refusals(scheme: Scheme) -> None:
    budget, rng = Budget(1000, 192), noise_streams("x", 0)
    with pytest.raises(InvalidSource):
        scheme.transmit(torch.full((1, 3, 8, 8), torch.nan), budget, AWGN(), 10.0, rng)
    with pytest.raises(InvalidSource, match="batch of 2 images"):
        unwrap(type(scheme).transmit)(scheme, torch.rand(2, 3, 8, 8), budget, AWGN(), 10.0, rng)
    with pytest.raises(InvalidOption, match="SNR of nan dB"):
        scheme.transmit(torch.rand(1, 3, 8, 8), budget, AWGN(), torch.nan, rng)
    with pytest.raises(InvalidOption, match="2 SNRs for 1 items"):
        scheme.transmit(torch.rand(1, 3, 8, 8), budget, AWGN(), torch.tensor([1.0, 2.0]), rng)


CHECKS = (
    check_form,
    check_budget_on_every_kind_of_channel,
    check_determinism,
    check_independence_of_batch_and_order,
    check_noise_fades_away,
    check_outage_for_lack_of_room,
    check_outage_is_concealed,
    check_fingerprint,
    check_refusals,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("scheme", [UNCODED, *SCHEMES], ids=lambda scheme: scheme.name)
def test_scheme(scheme: Scheme, check: Callable[[Scheme], None]) -> None:
    check(scheme)


@pytest.mark.parametrize(
    "check",
    [
        check_form,
        check_budget_on_every_kind_of_channel,
        check_determinism,
        check_independence_of_batch_and_order,
        check_fingerprint,
        check_refusals,
    ],
    ids=lambda check: check.__name__.removeprefix("check_"),
)
@pytest.mark.parametrize("scheme", GENERATIVE, ids=lambda scheme: scheme.name)
def test_scheme_with_a_prior(scheme: Scheme, check: Callable[[Scheme], None]) -> None:
    check(scheme)


@pytest.mark.parametrize("scheme", GENERATIVE, ids=lambda scheme: scheme.name)
def test_network_calls_are_counted(scheme: Scheme) -> None:
    """Those recorded are those made, and products with the Jacobian count as calls."""
    assert isinstance(scheme.receiver, Generative)
    method = scheme.receiver.method
    if isinstance(method, EncoderInTheLoop):
        pytest.skip("most of its calls are to the encoder, see test_receiver_gaussian")
    calls = 0

    class Counting:
        """The denoiser; its backward passes are counted as well."""

        def __call__(self, x: torch.Tensor, sigma: torch.Tensor, *told: torch.Tensor | None) -> torch.Tensor:
            nonlocal calls
            calls += 1
            denoised = method.denoiser(x, sigma, *told)  # pyright: ignore
            if denoised.requires_grad:
                denoised.register_hook(self.product)
            return denoised

        def product(self, gradient: torch.Tensor) -> None:
            nonlocal calls
            calls += 1

    counted = replace(scheme.receiver, method=replace(method, denoiser=Counting()))  # pyright: ignore
    outcome = send(replace(scheme, receiver=counted), [10.0])
    assert outcome.info["nfe"].item() == calls


def test_a_knob_at_zero_shows_what_arrived() -> None:
    for scheme in GENERATIVE:
        if isinstance(scheme.transmission, Analog):
            assert isinstance(scheme.receiver, Generative)
            still = replace(scheme, receiver=replace(scheme.receiver, knob=0.0))
            plain = Scheme(scheme.transmission.name, scheme.transmission, Direct())
            torch.testing.assert_close(send(still, [5.0]).x_hat, send(plain, [5.0]).x_hat)


def test_a_lost_item_is_a_sample_of_the_prior_and_flagged() -> None:
    for scheme in GENERATIVE:
        if isinstance(scheme.transmission, Separate):
            outcome = send(scheme, [-40.0])
            assert outcome.info["outage"] == 1
            assert not torch.equal(outcome.x_hat[0], concealment(scheme, (24, 40)))
            assert float(outcome.x_hat.std()) > 0.01


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_images_in_double_precision_or_with_a_gradient_are_sent_as_others(scheme: Scheme) -> None:
    x = picture("toy", 16, 16).x
    sent = [
        scheme.transmit(image, Budget(700, x.numel()), PLAIN, 10.0, noise_streams("toy", 0)).x_hat
        for image in (x, x.double(), x.clone().requires_grad_())
    ]
    for x_hat in sent[1:]:
        assert torch.equal(x_hat, sent[0])
        assert not x_hat.requires_grad


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (torch.full((1, 3, 16, 16), torch.nan), "768 values not finite"),
        (torch.ones(1, 3, 16, 15), r"shows \[1, 3, 16, 15\] .* expected \[1, 3, 16, 16\]"),
    ],
)
def test_a_receiver_that_shows_no_image_is_named(shown: torch.Tensor, reason: str) -> None:
    class Faulty:
        name = "faulty"

        def __call__(self, observation: Observation, rng: Streams) -> torch.Tensor:
            return shown

    scheme = replace(scheme_named("softcast"), receiver=Faulty())
    x = picture("toy", 16, 16).x
    with pytest.raises(FaultyReceiver, match=reason):
        scheme.transmit(x, Budget(200, x.numel()), PLAIN, 10.0, noise_streams("toy", 0))


def test_fingerprints_differ() -> None:
    assert len({fingerprint(transmission) for transmission in TRANSMISSIONS}) == len(TRANSMISSIONS)


def digital(*kinds: type) -> list[Scheme]:
    return [scheme for scheme in SCHEMES if isinstance(scheme.transmission, kinds)]


@pytest.mark.parametrize("scheme", digital(Separate, IdealSeparate), ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("uses", [900, ROOMY])
def test_digital_at_60_db_is_the_codec_alone(scheme: Scheme, uses: int) -> None:
    assert isinstance(scheme.transmission, Separate | IdealSeparate)
    codec = scheme.transmission.codec
    outcome = send(scheme, [60.0], uses=uses)
    assert outcome.info["outage"] == 0
    x = picture("toy", 24, 40).x
    scale, bits = int(outcome.info["scale"]), int(outcome.info["payload_bits"])
    payloads = [codec.encode(x, quality) for quality in codec.qualities if quality.scale == scale]
    same = [codec.decode(payload, tuple(x.shape)) for payload in payloads if 8 * len(payload) == bits]
    assert any(torch.equal(decoded, outcome.x_hat) for decoded in same)


@pytest.mark.parametrize("scheme", digital(IdealSeparate), ids=lambda scheme: scheme.name)
def test_placeholders_are_white_and_of_power_one(scheme: Scheme) -> None:
    """So that amplifiers and estimates of the gain meet what a code word would be."""
    x = picture("toy", 24, 40).x
    symbols = scheme.transmission.prepare(x, Budget(ROOMY, x.numel()), PLAIN, 10.0).symbols[0]
    torch.testing.assert_close(symbols.abs(), torch.ones(ROOMY))
    for lag in (1, 2, 64):
        assert abs((symbols[lag:] * symbols[:-lag].conj()).mean()) < 5 * ROOMY**-0.5
    assert abs(symbols.mean()) < 5 * ROOMY**-0.5


@pytest.mark.parametrize("scheme", digital(Separate), ids=lambda scheme: scheme.name)
def test_digital_without_knowledge_falls_off_a_cliff(scheme: Scheme) -> None:
    assert isinstance(scheme.transmission, Separate)
    blind = isinstance(scheme.transmission.policy, FixedMcs)
    outcome = send(scheme, [-20.0])
    assert outcome.info["outage"] == 1
    assert outcome.channel_uses == (ROOMY if blind else 0)
    assert ("safe" in outcome.causes[0]) == (not blind)


THIRD_PARTY = '''
from dataclasses import dataclass

from channels import transmit
from channels.symbols import average_power, pack, unpack
from semcom.receivers import Direct
from semcom.scheme import Scheme
from semcom.transmission import Sent, lost, nothing_sent, observe_images


@dataclass(frozen=True)
class Repeated:
    """Every pair of pixels twice; the receiver takes the mean."""

    csit: str = "none"
    concealment: str = "grey"
    name: str = "repeated"

    def prepare(self, x, budget, channel, csit_snr_db):
        once = pack((2 * x.flatten(1) - 1) / 2**0.5)
        symbols = once.repeat(1, 2)
        uses = symbols.shape[1] + channel.overhead(symbols.shape[1])
        if uses > budget.channel_uses:
            return nothing_sent(tuple(x.shape), f"{uses} channel uses needed")
        return Sent(symbols, uses, tuple(x.shape))

    def deliver(self, sent, channel, snr_db, rng):
        if sent.cause:
            return lost(sent, "grey", rng.batch)
        received = transmit(channel, sent.symbols.expand(rng.batch, -1), snr_db, rng.fork("channel"))
        half = sent.symbols.shape[1] // 2
        y = received.y / received.h
        dims = sent.shape[1] * sent.shape[2] * sent.shape[3]
        values = (unpack((y[:, :half] + y[:, half:]) / 2)[:, :dims] * 2**0.5 + 1) / 2
        images = [image.reshape(sent.shape) for image in values]
        energy = average_power(sent.symbols) * 2 * half + channel.overhead(2 * half)
        return observe_images(sent, images, energy.expand(rng.batch), "grey")


REPEATED = Scheme("third-party", Repeated(), Direct())
'''


def test_third_party_scheme_passes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "repetition.py").write_text(THIRD_PARTY)
    monkeypatch.syspath_prepend(tmp_path)
    scheme = scheme_named("their_package.repetition:REPEATED")
    for check in CHECKS:
        check(scheme)
    for name in ("their_package", "their_package.repetition"):
        del sys.modules[name]
