"""What every channel code promises."""

import pytest
import torch
from instances import CODES

from channels.errors import ChannelError
from channels.fec import ChannelCode

pytestmark = pytest.mark.parametrize(
    ("code", "info_bits", "coded_bits"), CODES, ids=[f"{code.name}-{k}-{n}" for code, k, n in CODES]
)


def messages(blocks: int, info_bits: int) -> torch.Tensor:
    return torch.randint(0, 2, (blocks, info_bits), dtype=torch.uint8)


def received(coded: torch.Tensor, snr_db: float) -> torch.Tensor:
    """LLRs of BPSK: 1 - 2 b in noise of variance N0 / 2."""
    noise_var = 10 ** (-snr_db / 10)
    return (1 - 2.0 * coded + (noise_var / 2) ** 0.5 * torch.randn(coded.shape)) * 4 / noise_var


def test_without_noise_it_decodes_what_was_sent(code: ChannelCode, info_bits: int, coded_bits: int) -> None:
    bits = messages(5, info_bits)
    coded = code.encode(bits, coded_bits)
    assert coded.shape == (5, coded_bits)
    assert coded.dtype == torch.uint8
    decoded = code.decode(4.0 * (1 - 2.0 * coded), info_bits)
    assert torch.equal(decoded.bits, bits)
    assert decoded.ok.all()
    assert (decoded.iterations >= 1).all()


def test_it_corrects_errors(code: ChannelCode, info_bits: int, coded_bits: int) -> None:
    bits = messages(20, info_bits)
    coded = code.encode(bits, coded_bits)
    llr = received(coded, 3.0 if info_bits < 0.6 * coded_bits else 6.0)
    assert ((llr < 0) != coded).any()
    assert torch.equal(code.decode(llr, info_bits).bits, bits)


def test_it_is_linear(code: ChannelCode, info_bits: int, coded_bits: int) -> None:
    a, b = messages(3, info_bits), messages(3, info_bits)
    both = code.encode(a, coded_bits) ^ code.encode(b, coded_bits)
    assert torch.equal(code.encode(a ^ b, coded_bits), both)
    assert not code.encode(a ^ a, coded_bits).any()


def test_words_are_decoded_one_by_one(code: ChannelCode, info_bits: int, coded_bits: int) -> None:
    """At an SNR where some fail, so that frames which share vectors stop at different iterations."""
    llr = received(code.encode(messages(13, info_bits), coded_bits), 0.0)
    together = code.decode(llr, info_bits)
    for i in range(13):
        alone = code.decode(llr[i : i + 1], info_bits)
        assert torch.equal(alone.bits[0], together.bits[i])
        assert alone.ok[0] == together.ok[i]
        assert alone.iterations[0] == together.iterations[i]


def test_the_caller_keeps_his_tensors(code: ChannelCode, info_bits: int, coded_bits: int) -> None:
    llr = received(code.encode(messages(2, info_bits), coded_bits), 3.0)
    before = llr.clone()
    code.decode(llr, info_bits)
    assert torch.equal(llr, before)


def test_an_erased_word_is_not_ok(code: ChannelCode, info_bits: int, coded_bits: int) -> None:
    assert not code.decode(torch.zeros(3, coded_bits), info_bits).ok.any()


def test_infinite_llrs_saturate(code: ChannelCode, info_bits: int, coded_bits: int) -> None:
    bits = messages(2, info_bits)
    llr = (1 - 2.0 * code.encode(bits, coded_bits)) * torch.inf
    decoded = code.decode(llr, info_bits)
    assert torch.equal(decoded.bits, bits)
    assert decoded.ok.all()


def test_nan_is_an_error(code: ChannelCode, info_bits: int, coded_bits: int) -> None:
    llr = torch.ones(2, coded_bits)
    llr[1, 3] = torch.nan
    with pytest.raises(ChannelError, match="NaN"):
        code.decode(llr, info_bits)


def test_an_empty_batch_stays_empty(code: ChannelCode, info_bits: int, coded_bits: int) -> None:
    coded = code.encode(messages(0, info_bits), coded_bits)
    assert coded.shape == (0, coded_bits)
    assert code.decode(coded.float(), info_bits).bits.shape == (0, info_bits)


def test_too_few_coded_bits_are_an_error(code: ChannelCode, info_bits: int, coded_bits: int) -> None:
    with pytest.raises(ChannelError, match=str(info_bits)):
        code.encode(messages(1, info_bits), info_bits - 1)
    with pytest.raises(ChannelError, match=str(info_bits)):
        code.decode(torch.zeros(1, info_bits - 1), info_bits)
