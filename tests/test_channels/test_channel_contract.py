"""What every channel promises."""

import pickle

import pytest
import torch
from instances import CHANNELS

from channels import (
    AWGN,
    OFDM,
    TDL,
    Impaired,
    Interleaved,
    Lossy,
    NamedStreams,
    NoCSI,
    Numerology,
    PhaseNoise,
    SharedStreams,
    transmit,
)
from channels.errors import ChannelError
from channels.realisations import realisations
from channels.symbols import normalize_power
from semcom import names

ITEMS = 150

every_channel = pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)

# NoCSI is wrong on purpose; an interleaver and a clipped amplifier depend on the whole item, as they say.
KNOWING = [channel for channel in CHANNELS if not isinstance(channel, NoCSI)]
PREFIXED = [
    channel for channel in CHANNELS if not isinstance(channel, Interleaved) and "clip" not in channel.name
]


def streams(items=ITEMS):
    return NamedStreams(7, tuple(f"item {i}" for i in range(items)))


def uses_of(channel, total=1120):
    """Data symbols in about so many channel uses, filling whole OFDM symbols."""
    return channel.data_uses(total)


def qpsk(items, uses, dtype=torch.complex64):
    bits = NamedStreams(1, tuple(f"data {i}" for i in range(items))).bits("bits", (uses, 2))
    return torch.view_as_complex((2.0 * bits - 1) * 0.5**0.5).to(dtype)


def gaussian(items, uses):
    x = NamedStreams(1, tuple(f"data {i}" for i in range(items))).complex_normal("x", (uses,))
    return normalize_power(x)


def heavy_tailed(items, uses):
    """Powers as of linear coding, which fall as 1/i, in an order of its own for every item."""
    order = NamedStreams(2, tuple(f"data {i}" for i in range(items))).uniform("order", (uses,)).argsort(1)
    return normalize_power(gaussian(items, uses) * (1.0 + order) ** -0.5)


def average_gain(channel):
    """E|h|^2: 1, or the share of packets that arrive."""
    if isinstance(channel, Interleaved):
        return average_gain(channel.channel)
    return 1 - channel.loss.mean_loss if isinstance(channel, Lossy) else 1


def mean_and_error(per_item):
    return per_item.mean().item(), per_item.std().item() / len(per_item) ** 0.5


def equal(a, b):
    return all(
        torch.allclose(x, y, rtol=1e-4, atol=1e-5)
        for x, y in ((a.y, b.y), (a.h, b.h), (a.noise_var, b.noise_var))
    )


@every_channel
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("uses", [0, 1, 301])
def test_shape_and_dtype_are_kept(channel, uses, dtype):
    received = transmit(channel, qpsk(2, uses, dtype), 10.0, streams(2))
    assert received.y.shape == received.h.shape == (2, uses)
    assert received.y.dtype == received.h.dtype == dtype
    assert received.noise_var.shape in ((2, 1), (2, uses))
    assert bool((received.noise_var > 0).all())


@every_channel
@pytest.mark.parametrize("rng", [streams(0), SharedStreams.seeded(0, 0)], ids=["named", "shared"])
def test_an_empty_batch_stays_empty(channel, rng):
    received = transmit(channel, torch.zeros(0, 301, dtype=torch.complex64), 10.0, rng)
    assert received.y.shape == received.h.shape == (0, 301)
    assert received.noise_var.shape in ((0, 1), (0, 301))


@every_channel
def test_average_received_power_is_that_of_the_gain_plus_noise(channel):
    """E|h|^2, 1 where nothing is lost: five standard errors over items, at an SNR that hides the noise.

    Distortion of an amplifier is partly lost on guards: there, what is heard is the gain and the rest of it.
    """
    uses = uses_of(channel)
    received = transmit(channel, qpsk(ITEMS, uses), 80.0, streams())
    power = received.y.abs().square().mean(1)
    if "clip" in channel.name and "grid" in channel.name:
        power = 1 + power - (received.h.abs().square() + received.noise_var).mean(1)
    mean, error = mean_and_error(power)
    assert abs(mean - average_gain(channel)) < 5 * error + 1e-5


@pytest.mark.parametrize("symbols", [qpsk, gaussian, heavy_tailed])
@pytest.mark.parametrize("channel", KNOWING, ids=lambda channel: channel.name)
def test_noise_variance_is_what_the_receiver_believes(channel, symbols):
    """E|y - h x|^2 = E noise_var, at 0, 20 and 60 dB in one batch."""
    uses = uses_of(channel)
    x = symbols(ITEMS, uses)
    received = transmit(channel, x, torch.tensor([0.0, 20.0, 60.0]).repeat(ITEMS // 3), streams())
    wrong = (received.y - received.h * x).abs().square().mean(1) / received.noise_var.mean(1)
    for share in wrong.unflatten(0, (-1, 3)).unbind(1):
        mean, error = mean_and_error(share)
        assert abs(mean - 1) < 5 * error


@every_channel
@pytest.mark.parametrize("uses", [64, 300])
def test_a_belief_that_is_wrong_is_no_ground_for_predictions(channel, uses):
    for snr_db in (0.0, 20.0):
        if isinstance(channel, NoCSI):
            with pytest.raises(ChannelError, match=r"^no-csi/.* estimate it by PilotAided$"):
                list(realisations(channel, snr_db, uses))
        else:
            assert sum(len(received.y) for received in realisations(channel, snr_db, uses)) >= 2


@every_channel
def test_an_item_alone_is_the_item_in_a_batch(channel):
    uses = uses_of(channel, 400)
    x, rng = qpsk(3, uses), streams(3)
    together = transmit(channel, x, 10.0, rng)
    alone = transmit(channel, x[1:2], 10.0, rng.select([1]))
    assert torch.allclose(alone.y, together.y[1:2], rtol=1e-4, atol=1e-5)
    assert torch.allclose(alone.h, together.h[1:2], rtol=1e-4, atol=1e-5)


@every_channel
def test_one_snr_per_item(channel):
    uses = uses_of(channel, 400)
    x, rng = qpsk(3, uses), streams(3)
    together = transmit(channel, x, torch.tensor([0.0, 7.5, 15.0]), rng)
    for i, snr_db in enumerate((0.0, 7.5, 15.0)):
        alone = transmit(channel, x[i : i + 1], snr_db, rng.select([i]))
        assert torch.allclose(alone.y, together.y[i : i + 1], rtol=1e-4, atol=1e-5)
        assert torch.allclose(alone.noise_var, together.noise_var[i : i + 1], rtol=1e-4)


@every_channel
def test_the_same_names_give_the_same_noise_and_others_do_not(channel):
    uses = uses_of(channel, 400)
    x, rng = qpsk(2, uses), streams(2)
    once = transmit(channel, x, 10.0, rng)
    assert equal(once, transmit(channel, x, 10.0, rng))
    other = transmit(channel, x, 10.0, rng.fork("other"))
    assert bool((once.y - other.y).abs().gt(1e-3).float().mean() > 0.9)
    assert bool((once.y[0] - x[0] - once.y[1] + x[1]).abs().gt(1e-3).float().mean() > 0.9)


@every_channel
def test_state_can_be_used_twice(channel):
    uses = uses_of(channel, 400)
    state = channel.draw(uses, 10.0, streams(2))
    x = qpsk(2, uses)
    assert equal(channel.apply(x, state), channel.apply(x, state))


@pytest.mark.parametrize("channel", PREFIXED, ids=lambda channel: channel.name)
def test_noise_is_common_to_short_and_long_transmissions(channel):
    short, long = uses_of(channel, 600), uses_of(channel, 1500)
    x, rng = qpsk(2, long), streams(2)
    head = transmit(channel, x[:, :short], 10.0, rng)
    whole = transmit(channel, x, 10.0, rng)
    assert torch.allclose(head.y, whole.y[:, :short], rtol=1e-4, atol=1e-5)


@every_channel
def test_gradient_reaches_every_symbol(channel):
    """But for the symbols of lost packets, which nothing of y depends on."""
    x = qpsk(2, uses_of(channel, 400)).requires_grad_()
    received = transmit(channel, x, 10.0, streams(2))
    received.y.abs().square().sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(torch.view_as_real(x.grad)).all())
    lost = received.h == 0
    assert bool((x.grad.abs()[~lost] > 1e-4).float().mean() > 0.95)
    assert not x.grad[lost].any()
    assert average_gain(channel) < 1 or not lost.any()


@every_channel
def test_data_uses_is_the_inverse_of_overhead(channel):
    assert channel.overhead(0) == 0
    assert channel.data_uses(0) == 0
    for total in (*range(1, 400, 7), 1119, 1120, 1121, 4321, 100_000):
        uses = channel.data_uses(total)
        assert uses + channel.overhead(uses) <= total
        assert uses + 1 + channel.overhead(uses + 1) > total


@every_channel
def test_channels_are_values(channel):
    twin = pickle.loads(pickle.dumps(channel))
    assert twin == channel
    assert hash(twin) == hash(channel)
    assert twin.name == channel.name
    assert " " not in channel.name


def test_names_tell_channels_apart():
    assert len({channel.name for channel in CHANNELS}) == len(CHANNELS)


@pytest.mark.parametrize("number", [1e6, 2.5e9, 1e22, 123456789.0, 1e-7])
def test_names_with_large_numbers_are_read_back(number):
    """Stages are joined by "+", which a number must not hold."""
    waveform = (TDL("A", 0.0, number), PhaseNoise(number))
    for channel in (OFDM(waveform, Numerology(spacing_hz=number)), Impaired(AWGN(), waveform)):
        assert names.channel(channel.name) == channel


@every_channel
def test_items_and_states_of_other_sizes_are_refused(channel):
    """Never one noise for all items: a lone stream or state is not spread over a batch."""
    uses = uses_of(channel, 400)
    x = qpsk(4, uses)
    with pytest.raises(ChannelError, match=r"^4 items of symbols, but streams of 1"):
        transmit(channel, x, 10.0, streams(1))
    with pytest.raises(ChannelError, match=r"^3 SNRs for 4 items"):
        channel.draw(uses, torch.tensor([0.0, 1.0, 2.0]), streams(4))
    for items, drawn in ((1, uses), (4, 1), (4, 2 * uses)):
        with pytest.raises(ChannelError, match=r"^symbols of .* on a state drawn for .*$"):
            channel.apply(x, channel.draw(drawn, 10.0, streams(items)))


@every_channel
def test_training_streams(channel):
    uses = uses_of(channel, 400)
    rng = SharedStreams.seeded(0, 4)
    first, second = (transmit(channel, qpsk(4, uses), 10.0, rng) for _ in range(2))
    assert not torch.allclose(first.y, second.y)
    assert bool((first.y[0] - first.y[1]).abs().max() > 1e-3)


@every_channel
@pytest.mark.parametrize("snr_db", [float("nan"), float("inf"), 1000.0, -1000.0])
def test_impossible_snr_is_one_clear_line(channel, snr_db):
    with pytest.raises(ChannelError, match=r"^SNR of .* dB .*$"):
        channel.draw(8, snr_db, streams(1))


@every_channel
@pytest.mark.gpu
def test_device_follows_the_data(channel):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    uses = uses_of(channel, 400)
    x, rng = qpsk(2, uses), streams(2)
    here = transmit(channel, x, 10.0, rng)
    there = transmit(channel, x.cuda(), 10.0, rng)
    assert there.y.is_cuda
    assert there.h.is_cuda
    assert there.noise_var.is_cuda
    assert torch.allclose(there.y.cpu(), here.y, rtol=1e-3, atol=1e-4)
    trained = transmit(channel, x.cuda(), 10.0, SharedStreams.seeded(0, 2, "cuda"))
    assert trained.y.is_cuda
