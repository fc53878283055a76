import numpy as np
import pytest
import torch

from channels.errors import ChannelError
from channels.fec import SmallBlock


def all_messages(k: int) -> torch.Tensor:
    return ((torch.arange(2**k)[:, None] >> torch.arange(k)) & 1).to(torch.uint8)


@pytest.mark.parametrize(("k", "distance"), [(3, 16), (5, 16), (6, 16), (7, 12), (10, 12), (11, 10)])
def test_minimum_distance(k: int, distance: int) -> None:
    """Six bits span the first-order Reed-Muller code (distance 16); five masks bring it down to 10."""
    weights = SmallBlock().encode(all_messages(k), 32).sum(1)[1:]
    assert int(weights.min()) == distance


def test_rows_of_the_table() -> None:
    """Table 5.3.3.3-1: first column all ones, last row 1 0 ... 0; row 30 all ones, row 0 is 1 1 0 ... 0 1."""
    unit = SmallBlock().encode(torch.eye(11, dtype=torch.uint8), 32)  # [bit, position]
    assert unit[0].all()
    assert unit[:, 31].tolist() == [1] + [0] * 10
    assert unit[:, 30].tolist() == [1] * 11
    assert unit[:, 0].tolist() == [1, 1] + [0] * 8 + [1]


@pytest.mark.parametrize("coded_bits", [17, 20, 31, 33, 48, 64, 200])
def test_positions_are_taken_in_turn(coded_bits: int) -> None:
    bits = torch.randint(0, 2, (9, 11), dtype=torch.uint8)
    full, coded = SmallBlock().encode(bits, 32), SmallBlock().encode(bits, coded_bits)
    for j in range(coded_bits):
        assert torch.equal(coded[:, j], full[:, j % 32])


@pytest.mark.parametrize(("k", "coded_bits"), [(3, 5), (8, 32), (11, 32), (11, 50)])
def test_decoding_is_maximum_likelihood(k: int, coded_bits: int) -> None:
    """Against the log-likelihood of each of the 2^k words, summed bit by bit."""
    llr = torch.randn(40, coded_bits)
    words = SmallBlock().encode(all_messages(k), coded_bits).numpy()
    likelihood = np.where(words[None] == 0, llr.numpy()[:, None], -llr.numpy()[:, None]).astype(float).sum(-1)
    expected = all_messages(k)[torch.from_numpy(likelihood.argmax(1))]
    decoded = SmallBlock().decode(llr, k)
    assert torch.equal(decoded.bits, expected)
    assert decoded.ok.all() or coded_bits < 32


def test_words_cut_short_may_be_ambiguous() -> None:
    """Two messages that agree in the bits received are a tie."""
    assert not SmallBlock().decode(torch.zeros(1, 40), 11).ok.any()


@pytest.mark.parametrize(
    ("k", "coded_bits", "message"),
    [
        (2, 32, r"takes 3\.\.11"),
        (12, 32, r"takes 3\.\.11"),
        (11, 10, "10 coded bits"),
    ],
)
def test_out_of_range(k: int, coded_bits: int, message: str) -> None:
    with pytest.raises(ChannelError, match=message):
        SmallBlock().encode(torch.zeros(1, k, dtype=torch.uint8), coded_bits)
    with pytest.raises(ChannelError, match=message):
        SmallBlock().decode(torch.zeros(1, coded_bits), k)


@pytest.mark.parametrize("k", range(3, 12))
def test_every_length_that_is_accepted_tells_all_messages_apart(k: int) -> None:
    """Words cut to e bits are distinct if and only if e is accepted; cut at 32 bits, all are."""
    full = SmallBlock().encode(all_messages(k), 32)
    for coded_bits in range(k, 33):
        distinct = len(full[:, :coded_bits].unique(dim=0)) == 2**k
        if distinct:
            llr = 4.0 * (1 - 2.0 * full[:, :coded_bits])
            assert torch.equal(SmallBlock().decode(llr, k).bits, all_messages(k))
        else:
            with pytest.raises(ChannelError, match=f"^{coded_bits} coded bits cannot hold {k} info"):
                SmallBlock().encode(all_messages(k), coded_bits)
    assert len(full.unique(dim=0)) == 2**k
