"""What a caller has set in torch changes no result of the digital chain and raises nothing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from channels import link
from channels.channel import Received
from channels.constellation import Constellation
from channels.fec import NRLDPC, SmallBlock, TransportBlock, small_block
from channels.fec.crc import CRC24A
from channels.link import DigitalLink, IdealLink, frame, unframe
from channels.mcs import MCS_TABLE
from channels.packets import PacketLink
from channels.symbols import average_power, normalize_power, pack, unpack

ROOT = Path(__file__).parents[2]
STATES = {
    "double precision": lambda: torch.set_default_dtype(torch.float64),
    "another device": lambda: torch.set_default_device("meta"),
}


def forget() -> None:
    """Tensors that were made under another state."""
    for cached in (link._whitening, link._scrambling, small_block._words, small_block._basis):
        cached.cache_clear()


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    forget()


def noisy(x: torch.Tensor, noise: torch.Tensor) -> Received:
    return Received(
        x + 0.1 * noise[:, : x.shape[1]], torch.ones_like(x), torch.full_like(x.real[:, :1], 0.02)
    )


def results(bits: torch.Tensor, noise: torch.Tensor) -> list[torch.Tensor]:
    """What all parts of the digital chain answer, inputs given."""
    found = list[torch.Tensor]()
    for size in (2, 4, 16, 64, 256):
        constellation = Constellation(size)
        x = constellation.modulate(bits[:, :480])
        seen = noisy(x, noise)
        found += [x, constellation.points, constellation.exact_llr(seen), constellation.max_log_llr(seen)]
        found += [constellation.hard_decision(seen)]
    for code, k in ((SmallBlock(), 11), (NRLDPC(), 100)):
        coded = code.encode(bits[:, :k], 240)
        decoded = code.decode(4.0 * (1 - 2.0 * coded.float()), k)
        found += [coded, decoded.bits, decoded.ok, decoded.iterations]
    plan = TransportBlock(400, 1000, 2)
    delivered = plan.decode(4.0 * (1 - 2.0 * plan.encode(bits[:, :400]).float()))
    found += [delivered.bits, delivered.ok, delivered.block_ok, CRC24A.attach(bits)]
    for digital in (DigitalLink(MCS_TABLE[6]), DigitalLink(MCS_TABLE[12], adapted=True)):
        x = digital.send(bits[0, :400], 900)
        delivery = digital.receive(noisy(x, noise[:1]))
        found += [x, *delivery.bits, delivery.ok, delivery.bler]
        assert delivery.ok.all()
    assert unframe(frame(b"semantic", 5)) == (b"semantic", 5)
    packeted = PacketLink(400, (MCS_TABLE[8],))
    x = packeted.send((b"one", b"two"), 800)
    assert packeted.receive(noisy(x, noise[:1])) == ((b"one", b"two"),)
    seen = noisy(normalize_power(pack(noise.real)), noise)
    found += [x, seen.y, unpack(seen.y), average_power(seen.y)]
    return [*found, IdealLink().carried_bits(seen), IdealLink(1e-3).carried_bits(seen)]


def test_the_digital_chain_answers_the_same(state: str) -> None:
    generator = torch.Generator().manual_seed(3)
    bits = torch.randint(0, 2, (4, 480), generator=generator, dtype=torch.uint8)
    noise = torch.randn(4, 1000, generator=generator, dtype=torch.complex64)
    forget()
    expected = results(bits, noise)
    forget()
    STATES[state]()
    answered = results(bits, noise)
    for a, b in zip(answered, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.device == b.device
        assert torch.equal(a, b)


HALF = """
import torch
from channels.channel import Received
from channels.constellation import Constellation
from channels.link import DigitalLink, IdealLink
from channels.mcs import MCS_TABLE
from channels.packets import PacketLink
from channels.symbols import average_power, normalize_power, pack, unpack

def half_and_wide(x):
    y, h = x.to(torch.complex32), torch.full_like(x, 0.5 + 0.5j).to(torch.complex32)
    noise_var = torch.full((x.shape[0], 1), 0.02, dtype=torch.float16)
    wide = Received(y.to(torch.complex64), h.to(torch.complex64), noise_var.float())
    return Received(y, h, noise_var), wide

x = pack(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)))
half, wide = half_and_wide(x)
for function in (unpack, average_power, normalize_power):
    assert torch.equal(function(half.y), function(wide.y)), function
for size in (2, 4, 16, 64, 256):
    for method in (Constellation(size).exact_llr, Constellation(size).max_log_llr):
        assert torch.equal(method(half), method(wide)), size
assert torch.equal(IdealLink(1e-3).carried_bits(half), IdealLink(1e-3).carried_bits(wide))
digital, bits = DigitalLink(MCS_TABLE[6]), torch.ones(400, dtype=torch.uint8)
for received in half_and_wide((0.5 + 0.5j) * digital.send(bits, 900)):
    delivery = digital.receive(received)
    assert delivery.ok.all() and torch.equal(delivery.bits[0][:400], bits)
packeted = PacketLink(400, (MCS_TABLE[8],))
for received in half_and_wide((0.5 + 0.5j) * packeted.send((b"one", b"two"), 800)):
    assert packeted.receive(received) == ((b"one", b"two"),)
print("same")
"""


def test_symbols_of_half_precision_are_taken_for_what_they_stand_for() -> None:
    """In a process of its own, since annotations, which are checked during tests, know no complex32."""
    command = [sys.executable, "-W", "ignore:ComplexHalf", "-c", HALF]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert answer.stdout == "same\n", answer.stderr


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_values_of_half_precision_are_packed_as_what_they_stand_for(kind: torch.dtype) -> None:
    values = torch.randn(3, 7).to(kind)
    assert torch.equal(pack(values), pack(values.float()))
