"""Real values to symbols and back, and what is no batch of symbols."""

import subprocess
import sys

import pytest
import torch

from channels.errors import ChannelError
from channels.symbols import as_symbols, pack, unpack

WRONG = """
import torch
from channels import AWGN, NamedStreams
from channels.channel import transmit
from channels.errors import ChannelError
from channels.symbols import pack
from semcom import names

rng = NamedStreams(0, ("a",))
x = pack(torch.randn(1, 400, generator=torch.Generator().manual_seed(0)))
for name in ("awgn", "rayleigh:64", "rician:6:64", "pilots:16/rayleigh:64", "ofdm:tdl-a:100:10",
             "ofdm:clip:6", "lossy:64:0.1/awgn"):
    channel = names.channel(name)
    half = x.to(torch.complex32)
    y = transmit(channel, half, 10.0, rng).y
    wide = transmit(channel, half.to(torch.complex64), 10.0, rng).y
    assert y.dtype == torch.complex64 and torch.equal(y, wide), name
    for wrong, words in ((x.real, "torch.float32"), (x.real.half(), "torch.float16"), (x[0], "[200]"),
                         (x.numpy(), "ndarray"), (x.real > 0, "torch.bool")):
        try:
            transmit(channel, wrong, 10.0, rng)
        except ChannelError as error:
            assert words in str(error) and "expected" in str(error) and chr(10) not in str(error), error
        else:
            raise AssertionError(f"{name} takes {words}")
for wrong in (torch.arange(4)[None], x, torch.zeros(4)):
    try:
        pack(wrong)
    except ChannelError as error:
        assert chr(10) not in str(error)
    else:
        raise AssertionError(wrong.dtype)
"""


def test_symbols_of_half_precision_and_of_other_types_at_the_entry_of_all_channels() -> None:
    """In another interpreter: here beartype refuses before the channels do."""
    done = subprocess.run([sys.executable, "-c", WRONG], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_reals_of_every_width_are_packed(dtype: torch.dtype) -> None:
    values = torch.tensor([[1.0, -2.0, 0.5, 65504.0, 3.0]]).to(dtype)
    x = pack(values)
    wide = values.double().tolist()[0]
    assert x.tolist() == [[complex(*wide[:2]), complex(*wide[2:4]), complex(wide[4], 0)]]
    assert x.dtype == (torch.complex128 if dtype == torch.float64 else torch.complex64)
    assert unpack(x)[0, :5].tolist() == wide


def test_complex_numbers_stay_as_they_are() -> None:
    for dtype in (torch.complex64, torch.complex128):
        x = torch.ones(2, 3, dtype=dtype)
        assert as_symbols(x) is x
    assert as_symbols(torch.full((1, 2), 1 + 2j).to(torch.complex32)).dtype == torch.complex64
    for x, words in (
        (torch.ones(2, 3), "pack pairs of real values"),
        (torch.ones(3) * 1j, r"\[3\].*reshape"),
    ):
        with pytest.raises(ChannelError, match=words):
            as_symbols(x)
