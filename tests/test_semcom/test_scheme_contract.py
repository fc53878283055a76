"""What every scheme keeps, those of third parties included."""

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from inspect import unwrap  # what a user meets, whose types nobody checks
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from instances import GENERATIVE, SCHEMES, TRANSMISSIONS, UNTRAINED
from toys import UNCODED, Counting, Uncoded, picture

from channels import (
    AWGN,
    OFDM,
    Channel,
    ClippedAmplifier,
    Impaired,
    JakesFading,
    PilotAided,
    RayleighBlockFading,
    Received,
    Streams,
    transmit,
)
from channels.lossy import IndependentLoss, Lossy
from semcom import names
from semcom.analog import Analog
from semcom.budget import Budget
from semcom.errors import BudgetExceeded, FaultyReceiver, FaultyTransmission, InvalidOption, InvalidSource
from semcom.hybrid import Hybrid
from semcom.meter import metered
from semcom.modalities import IMAGE
from semcom.observation import Observation
from semcom.provenance import fingerprint
from semcom.receivers import Direct
from semcom.receivers.generative import Generative
from semcom.receivers.loop import EncoderInTheLoop
from semcom.scheme import Outcome, Scheme
from semcom.separate import FixedMcs, GenieSeparate, Separate
from semcom.sweep import noise_streams
from semcom.transmission import ChannelKnowledge, Genie, Sent

PLAIN = AWGN()
ROOMY = 6000
"""Channel uses that hold any of the small pictures below at any quality."""


def send(
    scheme: Scheme[Any],
    snr_db: list[float],
    seeds: list[int] | None = None,
    uses: int = ROOMY,
    size: tuple[int, int] = (24, 40),
    channel: Channel = PLAIN,
    x: torch.Tensor | None = None,
) -> list[Outcome[Any]]:
    item = picture("toy", *size)
    items = tuple(noise_streams(item.id, seed).items[0] for seed in seeds or [0] * len(snr_db))
    rng = noise_streams(item.id, 0)
    rng = type(rng)(rng.root, items)
    sent = item.x if x is None else x
    return scheme.transmit(sent, Budget(uses, sent.numel()), channel, torch.tensor(snr_db), rng)


def is_cover(x_hat: torch.Tensor) -> bool:
    return torch.equal(x_hat, IMAGE.cover(tuple(x_hat.shape)))


def check_form(scheme: Scheme[Any]) -> None:
    for size in ((1, 1), (3, 50), (17, 13), (24, 40)):
        outcomes = send(scheme, [60.0, 5.0], size=size)
        assert not outcomes[0].outage
        for outcome in outcomes:
            assert outcome.x_hat.shape == (1, 3, *size)
            assert 0 <= outcome.x_hat.min() <= outcome.x_hat.max() <= 1
            assert all(isinstance(value, float) and value == value for value in outcome.info.values())


CHANNELS = (
    PLAIN,
    RayleighBlockFading(64),
    PilotAided(JakesFading(0.01), 9),
    OFDM(),
    Lossy(PLAIN, 64, IndependentLoss(0.3)),
    Impaired(PLAIN, (ClippedAmplifier(3.0),)),
)


def check_what_crosses_is_measured(scheme: Scheme[Any]) -> None:
    """Once, in one piece, within what is allowed; genies cross the channel once per attempt.

    On other channels than these, predictions of informed transmitters take seconds; see the slow test.
    """
    informed = scheme.transmission.csit == "average"
    measure_what_crosses(scheme, (PLAIN, RayleighBlockFading(64)) if informed else CHANNELS)


def measure_what_crosses(scheme: Scheme[Any], channels: Sequence[Channel]) -> None:
    for channel, uses in (*((channel, 1001) for channel in channels), (PLAIN, 1), (PLAIN, 50)):
        counting = Counting(channel)
        outcomes = send(scheme, [20.0, 20.0], seeds=[0, 1], uses=uses, channel=counting)
        crossings = [symbols for symbols in counting.crossings if symbols]
        assert isinstance(scheme.transmission, Genie) or len(crossings) <= 1
        for outcome in outcomes:
            spent = crossings[-1] + channel.overhead(crossings[-1]) if crossings else 0
            assert outcome.channel_uses == spent <= uses
            assert outcome.energy <= 1.1 * outcome.channel_uses  # 5 standard errors of 256-QAM
            assert spent > 0 or (outcome.outage and outcome.cause and not outcome.energy)


def check_determinism(scheme: Scheme[Any]) -> None:
    (one,), (two,) = send(scheme, [3.0]), send(scheme, [3.0])
    assert torch.equal(one.x_hat, two.x_hat)
    assert one.info == two.info


def check_independence_of_batch_and_order(scheme: Scheme[Any]) -> None:
    snr_db, seeds = [8.0, 60.0, 3.0, 8.0], [0, 1, 2, 2]
    whole = send(scheme, snr_db, seeds, uses=700)
    order = [2, 0, 3, 1]
    mixed = send(scheme, [snr_db[i] for i in order], [seeds[i] for i in order], uses=700)
    for place, i in enumerate(order):
        (alone,) = send(scheme, [snr_db[i]], [seeds[i]], uses=700)
        for other in (whole[i], mixed[place]):
            assert torch.allclose(other.x_hat, alone.x_hat, atol=1e-5)
            assert (other.outage, other.cause, other.channel_uses) == (
                alone.outage,
                alone.cause,
                alone.channel_uses,
            )
        assert whole[i].info == alone.info


def check_noise_fades_away(scheme: Scheme[Any]) -> None:
    """What two noises make of an image differs less at 60 dB than at 0 dB, and hardly at all."""

    def spread(snr_db: float) -> float:
        one, two = send(scheme, [snr_db, snr_db], seeds=[0, 1])
        return (one.x_hat - two.x_hat).abs().mean().item()

    assert spread(60.0) < 2e-3
    assert spread(60.0) <= spread(0.0)


def check_something_useful_arrives(scheme: Scheme[Any]) -> None:
    """At 60 dB and with room to spare, the picture shown is nearer to the original than to another one."""
    if isinstance(scheme.transmission, Analog) and scheme.transmission.network in UNTRAINED:
        return
    one, other = picture("toy", 24, 40), picture("other", 24, 40, seed=1)
    other_x = other.x.flip(2)
    for sent, not_sent in ((one.x, other_x), (other_x, one.x)):
        (outcome,) = send(scheme, [60.0], x=sent)
        assert (outcome.x_hat - sent).square().mean() < 0.5 * (outcome.x_hat - not_sent).square().mean()


def check_outage_for_lack_of_room(scheme: Scheme[Any]) -> None:
    for outcome in send(scheme, [60.0, 0.0], uses=1):
        assert outcome.outage
        assert outcome.channel_uses == 0
        assert outcome.energy == 0
        assert outcome.cause
        assert "\n" not in outcome.cause
        assert is_cover(outcome.x_hat)


def check_outage_shows_the_cover(scheme: Scheme[Any]) -> None:
    for outcome in send(scheme, [-40.0, -20.0]):
        assert is_cover(outcome.x_hat) == outcome.outage


def check_fingerprint(scheme: Scheme[Any]) -> None:
    assert len(fingerprint(scheme)) == 16


def check_refusals(scheme: Scheme[Any]) -> None:
    budget, rng = Budget(1000, 192), noise_streams("x", 0)
    with pytest.raises(InvalidSource):
        scheme.transmit(torch.full((1, 3, 8, 8), torch.nan), budget, AWGN(), 10.0, rng)
    with pytest.raises(InvalidSource, match="batch of 2 images"):
        unwrap(type(scheme).transmit)(scheme, torch.rand(2, 3, 8, 8), budget, AWGN(), 10.0, rng)
    with pytest.raises(InvalidOption, match="SNR of nan dB"):
        scheme.transmit(torch.rand(1, 3, 8, 8), budget, AWGN(), torch.nan, rng)
    with pytest.raises(InvalidOption, match="2 SNRs for 1 items"):
        scheme.transmit(torch.rand(1, 3, 8, 8), budget, AWGN(), torch.tensor([1.0, 2.0]), rng)


def check_the_halves_never_meet(scheme: Scheme[Any]) -> None:
    """A receiver half that has never seen the sender half, or that has seen it send another picture, observes
    the same; and how many symbols there are says nothing of the picture."""
    transmission = scheme.transmission
    if isinstance(transmission, Genie):
        return
    stranger = copy.deepcopy(transmission)
    x, other = picture("toy", 24, 40).x, picture("other", 24, 40, seed=3).x.flip(3)
    known = ChannelKnowledge(PLAIN, 20.0) if transmission.csit == "average" else None
    sent = transmission.send(x.clone(), ROOMY, known)
    rng = noise_streams("toy", 0).fork("channel")
    received = transmit(PLAIN, sent.symbols, 20.0, rng)
    another = transmission.send(other.clone(), ROOMY, known)
    assert another.symbols.shape == sent.symbols.shape
    shape = tuple(x.shape)
    after, strange = (t.receive(received, shape, ROOMY) for t in (transmission, stranger))
    again = transmission.send(x.clone(), ROOMY, known)
    assert torch.equal(again.symbols, sent.symbols)
    (expected,) = transmission.receive(received, shape, ROOMY)
    for (observation,) in (after, strange):
        assert (observation.shown is None) == (expected.shown is None)
        if observation.shown is not None and expected.shown is not None:
            assert torch.equal(observation.shown, expected.shown)


def check_the_original_stays(scheme: Scheme[Any]) -> None:
    x = picture("toy", 24, 40).x
    before = x.clone()
    scheme.transmit(x, Budget(ROOMY, x.numel()), PLAIN, 10.0, noise_streams("toy", 0))
    assert torch.equal(x, before)


CHECKS = (
    check_form,
    check_what_crosses_is_measured,
    check_determinism,
    check_independence_of_batch_and_order,
    check_noise_fades_away,
    check_something_useful_arrives,
    check_outage_for_lack_of_room,
    check_outage_shows_the_cover,
    check_fingerprint,
    check_refusals,
    check_the_halves_never_meet,
    check_the_original_stays,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("scheme", [UNCODED, *SCHEMES], ids=lambda scheme: scheme.name)
def test_scheme(scheme: Scheme, check: Callable[[Scheme], None]) -> None:
    check(scheme)


INFORMED = [scheme for scheme in SCHEMES if scheme.transmission.csit == "average"]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", INFORMED, ids=lambda scheme: scheme.name)
def test_what_crosses_is_measured_on_every_channel(scheme: Scheme) -> None:
    measure_what_crosses(scheme, CHANNELS)


@pytest.mark.parametrize(
    "check",
    [
        check_form,
        check_determinism,
        check_independence_of_batch_and_order,
        check_fingerprint,
        check_refusals,
        check_the_original_stays,
    ],
    ids=lambda check: check.__name__.removeprefix("check_"),
)
@pytest.mark.parametrize("scheme", GENERATIVE, ids=lambda scheme: scheme.name)
def test_scheme_with_a_prior(scheme: Scheme, check: Callable[[Scheme], None]) -> None:
    check(scheme)


@pytest.mark.parametrize(
    "scheme", [s for s in GENERATIVE if isinstance(s.receiver, Generative)], ids=lambda scheme: scheme.name
)
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
    (outcome,) = send(replace(scheme, receiver=counted), [10.0])
    assert outcome.info["nfe"] == calls


def test_a_knob_at_zero_shows_what_arrived() -> None:
    for scheme in GENERATIVE:
        if isinstance(scheme.transmission, Analog) and isinstance(scheme.receiver, Generative):
            still = replace(scheme, receiver=replace(scheme.receiver, knob=0.0))
            plain = Scheme(scheme.transmission.name, scheme.transmission, Direct())
            torch.testing.assert_close(send(still, [5.0])[0].x_hat, send(plain, [5.0])[0].x_hat)


def test_a_lost_item_is_a_sample_of_the_prior_and_flagged() -> None:
    for scheme in GENERATIVE:
        if isinstance(scheme.transmission, Separate) and isinstance(scheme.receiver, Generative):
            (outcome,) = send(scheme, [-40.0])
            assert outcome.outage
            assert not is_cover(outcome.x_hat)
            assert float(outcome.x_hat.std()) > 0.01


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_images_in_double_precision_or_with_a_gradient_are_sent_as_others(scheme: Scheme) -> None:
    x = picture("toy", 16, 16).x
    sent = [
        scheme.transmit(image, Budget(700, x.numel()), PLAIN, 10.0, noise_streams("toy", 0))[0].x_hat
        for image in (x, x.double(), x.clone().requires_grad_())
    ]
    for x_hat in sent[1:]:
        assert torch.equal(x_hat, sent[0])
        assert not x_hat.requires_grad


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (torch.full((1, 3, 16, 16), torch.nan), "shows no image .*not finite"),
        (torch.full((1, 3, 16, 16), 1.5), "shows no image .*1.5"),
        (torch.ones(1, 3, 16, 15), r"shows \(1, 3, 16, 15\), expected \(1, 3, 16, 16\)"),
    ],
)
def test_a_receiver_that_shows_no_image_is_named(shown: torch.Tensor, reason: str) -> None:
    class Faulty:
        name = "faulty"

        def __call__(self, observation: Observation[Any], shape: Any, rng: Streams) -> torch.Tensor:
            return shown

    scheme = replace(names.scheme("softcast"), receiver=Faulty())
    x = picture("toy", 16, 16).x
    with pytest.raises(FaultyReceiver, match=reason):
        scheme.transmit(x, Budget(200, x.numel()), PLAIN, 10.0, noise_streams("toy", 0))


def test_fingerprints_differ() -> None:
    assert len({fingerprint(transmission) for transmission in TRANSMISSIONS}) == len(TRANSMISSIONS)


def digital(*kinds: type) -> list[Scheme]:
    return [scheme for scheme in SCHEMES if isinstance(scheme.transmission, kinds)]


@pytest.mark.parametrize("scheme", digital(Separate, GenieSeparate), ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("uses", [900, ROOMY])
def test_digital_at_60_db_is_the_codec_alone(scheme: Scheme, uses: int) -> None:
    assert isinstance(scheme.transmission, Separate | GenieSeparate)
    codec = scheme.transmission.codec
    (outcome,) = send(scheme, [60.0], uses=uses)
    assert not outcome.outage
    x = picture("toy", 24, 40).x
    scale, bits = int(outcome.info["scale"]), int(outcome.info["payload_bits"])
    payloads = [codec.encode(x, quality) for quality in codec.qualities if quality.scale == scale]
    same = [codec.decode(payload, tuple(x.shape)) for payload in payloads if 8 * len(payload) == bits]
    assert any(torch.equal(decoded, outcome.x_hat) for decoded in same)


@pytest.mark.parametrize("scheme", digital(GenieSeparate), ids=lambda scheme: scheme.name)
def test_placeholders_are_white_and_of_power_one(scheme: Scheme) -> None:
    """So that amplifiers and estimates of the gain meet what a code word would be."""
    x = picture("toy", 24, 40).x
    assert isinstance(scheme.transmission, GenieSeparate)
    (whispered,) = scheme.transmission.send_all(x, ROOMY, ChannelKnowledge(PLAIN, 10.0))
    symbols = whispered.sent.symbols[0]
    torch.testing.assert_close(symbols.abs(), torch.ones(ROOMY, dtype=torch.float32))
    for lag in (1, 2, 64):
        assert abs((symbols[lag:] * symbols[:-lag].conj()).mean()) < 5 * ROOMY**-0.5
    assert abs(symbols.mean()) < 5 * ROOMY**-0.5


@pytest.mark.parametrize("scheme", digital(Separate), ids=lambda scheme: scheme.name)
def test_digital_without_knowledge_falls_off_a_cliff(scheme: Scheme) -> None:
    assert isinstance(scheme.transmission, Separate)
    blind = isinstance(scheme.transmission.policy, FixedMcs)
    (outcome,) = send(scheme, [-20.0])
    assert outcome.outage
    assert outcome.channel_uses == (ROOMY if blind else 0)
    assert ("would be lost" in outcome.cause) == (not blind)


THIRD_PARTY = '''
import math
from dataclasses import dataclass

from channels.symbols import pack, unpack
from semcom.observation import Observation
from semcom.receivers import Direct
from semcom.scheme import Scheme
from semcom.transmission import Sent, nothing_sent


@dataclass(frozen=True)
class Repeated:
    """Every pair of pixels twice; the receiver takes the mean."""

    csit: str = "none"
    name: str = "repeated"

    def send(self, x, uses, known):
        symbols = pack((2 * x.flatten(1) - 1) / 2**0.5).repeat(1, 2)
        if symbols.shape[1] > uses:
            return nothing_sent(f"{symbols.shape[1]} data symbols needed, {uses} allowed; raise rho")
        return Sent(symbols)

    def receive(self, received, shape, uses):
        half = received.y.shape[1] // 2
        y = received.y * received.h.conj() / received.h.abs().square().clamp_min(1e-9)
        values = (unpack((y[:, :half] + y[:, half:]) / 2)[:, : math.prod(shape)] * 2**0.5 + 1) / 2
        return [Observation(row.reshape(shape).clamp(0, 1)) for row in values]


REPEATED = Scheme("third-party", Repeated(), Direct())
'''


def test_third_party_scheme_passes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "repetition.py").write_text(THIRD_PARTY)
    monkeypatch.syspath_prepend(tmp_path)
    scheme = names.scheme("their_package.repetition:REPEATED")
    for check in CHECKS:
        check(scheme)
    for name in ("their_package", "their_package.repetition"):
        del sys.modules[name]


@dataclass(frozen=True)
class Cheat:
    """A transmission that does one thing more than it may."""

    inner: Any
    how: str
    csit: str = "none"
    name: str = "cheat"

    def send(self, x: torch.Tensor, uses: int, known: ChannelKnowledge | None) -> Sent:
        assert known is None  # without CSIT nothing tells the transmitter of the channel
        sent = self.inner.send(x, uses, None)
        symbols = sent.symbols
        if self.how == "amplitude":
            return replace(sent, symbols=10 * symbols)
        if self.how == "power of 60 dB":
            return replace(sent, symbols=1000 * symbols)
        if self.how == "a little power":
            return replace(sent, symbols=1.01 * symbols)
        if self.how == "uses":
            return replace(sent, symbols=symbols.repeat(1, 4))
        if self.how == "energy in padding":
            padding = torch.full((1, uses - symbols.shape[1]), 3.0 + 0j)
            return replace(sent, symbols=torch.cat((symbols, padding), 1))
        if self.how == "not finite":
            return replace(sent, symbols=symbols * torch.inf)
        if self.how == "false declaration":
            loud = symbols * (1 + 2 / symbols.shape[1] ** 0.5)
            (modulated,) = sent.modulated
            return replace(sent, symbols=loud, modulated=(replace(modulated, power=4.0),))
        if self.how == "destroys the original":
            x.zero_()
        return sent

    def receive(self, received: Received, shape: Any, uses: int) -> Any:
        return self.inner.receive(received, shape, uses)


SMALL, DIGITAL = Uncoded(), TRANSMISSIONS[1]  # 16-QAM


@pytest.mark.parametrize(
    ("how", "inner", "error", "reason"),
    [
        ("amplitude", SMALL, BudgetExceeded, "energy .* per channel use, allowed is 1"),
        ("power of 60 dB", SMALL, BudgetExceeded, "energy .* per channel use, allowed is 1"),
        ("a little power", names.scheme("softcast").transmission, BudgetExceeded, "energy 1.0"),
        ("amplitude", DIGITAL, BudgetExceeded, "energy .* per channel use, allowed is 1"),
        ("uses", DIGITAL, BudgetExceeded, f"sent {4 * ROOMY} channel uses, allowed are {ROOMY}"),
        ("energy in padding", SMALL, BudgetExceeded, "energy"),
        ("not finite", SMALL, FaultyTransmission, "not finite"),
        ("false declaration", DIGITAL, FaultyTransmission, "declares"),
    ],
)
def test_cheats_are_refused(how: str, inner: Any, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        send(Scheme("cheat", Cheat(inner, how), Direct()), [10.0])


def test_a_transmitter_destroys_its_own_copy_only() -> None:
    x = picture("toy", 24, 40).x
    before = x.clone()
    send(Scheme("cheat", Cheat(SMALL, "destroys the original"), Direct()), [10.0], x=x)
    assert torch.equal(x, before)


def test_symbols_in_info_do_not_reach_the_receiver() -> None:
    """The receiver half gets received symbols, shape and uses; there is no other way to it."""
    seen: list[tuple[str, ...]] = []

    @dataclass(frozen=True)
    class Curious(Cheat):
        def receive(self, *told: Any) -> Any:
            seen.append(tuple(type(part).__name__ for part in told))
            return super().receive(*told)

    send(Scheme("cheat", Curious(SMALL, ""), Direct()), [10.0])
    assert seen == [("Received", "tuple", "int")]


def test_the_shape_is_the_items_own() -> None:
    """Whatever the transmitter makes of its copy, the receiver is told the shape of the original."""

    @dataclass(frozen=True)
    class Squeezing(Cheat):
        def send(self, x: torch.Tensor, uses: int, known: ChannelKnowledge | None) -> Sent:
            x.resize_(1, 3, 2, 2)
            return self.inner.send(torch.rand(1, 3, 24, 40), uses, None)

    (outcome,) = send(Scheme("cheat", Squeezing(SMALL, ""), Direct()), [10.0])
    assert outcome.x_hat.shape == (1, 3, 24, 40)


def test_nothing_crosses_nothing_arrives() -> None:
    """A receiver half that shows the picture without a symbol is not asked."""
    x = picture("toy", 24, 40).x

    @dataclass(frozen=True)
    class Silent(Cheat):
        def send(self, x: torch.Tensor, uses: int, known: ChannelKnowledge | None) -> Sent:
            return Sent(torch.zeros(1, 0, dtype=torch.complex64))

        def receive(self, received: Received, shape: Any, uses: int) -> Any:
            return [Observation(x)]

    (outcome,) = send(Scheme("cheat", Silent(SMALL, ""), Direct()), [10.0])
    assert outcome.outage
    assert is_cover(outcome.x_hat)
    with pytest.raises(AssertionError):
        check_something_useful_arrives(Scheme("cheat", Silent(SMALL, ""), Direct()))


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        ([], "does not observe 1 receptions"),
        (torch.rand(1, 3, 24, 40), "does not observe 1 receptions"),
        ([torch.rand(1, 3, 24, 40)], "observes a Tensor"),
        ([Observation(None, info={"outage_of_mine": float("nan")})], "records outage_of_mine = nan"),
    ],
)
def test_observations_that_are_none_are_refused(observed: Any, reason: str) -> None:
    class Odd(Cheat):
        def receive(self, received: Received, shape: Any, uses: int) -> Any:
            return observed

    with pytest.raises(FaultyTransmission, match=reason):
        send(Scheme("odd", Odd(SMALL, ""), Direct()), [10.0])


class Smuggler:
    """A receiver half that looks at what its sender half has kept."""

    csit, name = "none", "smuggler"

    def __init__(self) -> None:
        self.kept = torch.zeros(1, 3, 24, 40)

    def send(self, x: torch.Tensor, uses: int, known: ChannelKnowledge | None) -> Sent:
        self.kept = x
        return Uncoded().send(x, uses, known)

    def receive(self, received: Received, shape: Any, uses: int) -> Any:
        return [Observation(self.kept)] * len(received.y)


def test_a_smuggler_is_noticed_by_the_contract() -> None:
    with pytest.raises(AssertionError):
        check_the_halves_never_meet(Scheme("smuggler", Smuggler(), Direct()))  # pyright: ignore


@pytest.mark.parametrize(
    "symbols",
    [torch.ones(0, 4) + 0j, torch.ones(2, 4) + 0j, torch.ones(4) + 0j, torch.ones(1, 4), [1 + 0j]],
    ids=["no rows", "two rows", "no batch", "real", "a list"],
)
def test_what_is_no_row_of_symbols_is_refused(symbols: Any) -> None:
    sent: Any = SimpleNamespace(symbols=symbols, modulated=())
    with pytest.raises(FaultyTransmission, match="expected complex symbols"):
        unwrap(metered)(sent, Budget(100, 100), PLAIN, "odd")


def test_a_hybrid_with_a_power_offset_spends_what_it_says() -> None:
    """Over OFDM, whose pilots and prefixes are counted once for both parts."""
    hybrid = next(t for t in TRANSMISSIONS if isinstance(t, Hybrid) and t.power_db != 0)
    channel = OFDM()
    (outcome,) = send(Scheme(hybrid.name, hybrid, Direct()), [30.0], uses=1500, channel=channel)
    data = channel.data_uses(1500)
    assert outcome.channel_uses == data + channel.overhead(data)
