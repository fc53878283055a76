import pytest
import torch

from channels.errors import ChannelError
from channels.fec import NRLDPC, TransportBlock
from channels.fec.crc import CRC16, CRC24A


def random_bits(batch: int, length: int) -> torch.Tensor:
    return torch.randint(0, 2, (batch, length), dtype=torch.uint8)


def noisy(coded: torch.Tensor, noise_std: float) -> torch.Tensor:
    return (1 - 2.0 * coded + noise_std * torch.randn(coded.shape)) * 2 / noise_std**2


# Derived by hand from 7.2.1, 7.2.2 and 5.2.2: A, G -> CRC length, base graph, C, K', Z
@pytest.mark.parametrize(
    ("info_bits", "coded_bits", "crc", "graph", "blocks", "block_bits", "z"),
    [
        (3824, 7648, 16, 2, 1, 3840, 384),
        (3825, 7650, 24, 1, 1, 3849, 176),
        (8424, 16848, 24, 1, 1, 8448, 384),
        (8456, 16912, 24, 1, 2, (8456 + 24 + 48) // 2, 208),
        (25392, 50784, 24, 1, 4, (25392 + 24 + 96) // 4, 320),
        (3808, 19040, 16, 2, 1, 3824, 384),
        (20010, 100050, 24, 2, 6, (20010 + 24 + 144) // 6, 352),
        (1, 64, 16, 2, 1, 17, 3),
    ],
)
def test_segmentation(
    info_bits: int, coded_bits: int, crc: int, graph: int, blocks: int, block_bits: int, z: int
) -> None:
    plan = TransportBlock(info_bits, coded_bits, 1)
    assert plan.crc == {16: CRC16, 24: CRC24A}[crc]
    assert plan.base_graph == graph
    assert plan.blocks == blocks
    assert plan.block.info_bits == block_bits
    assert plan.block.lifting_size == z


def test_uneven_messages_are_padded_with_fewer_bits_than_blocks() -> None:
    for info_bits in range(20000, 20004):
        plan = TransportBlock(info_bits, 40000, 2)
        needed = info_bits + 24 + 24 * plan.blocks
        assert 0 <= plan.blocks * plan.block.info_bits - needed < plan.blocks
        bits = random_bits(1, info_bits)
        assert torch.equal(plan.decode(20.0 * (1 - 2.0 * plan.encode(bits))).bits, bits)


def test_coded_bits_are_shared_out_in_whole_symbols() -> None:
    """5.4.2.1 with C = 3, Q = 4 and 10 001 symbols: 3333, 3334 and 3334 of them."""
    plan = TransportBlock(20000, 40004, 4)
    assert plan.blocks == 3
    assert plan.block_coded_bits == (3333 * 4, 3334 * 4, 3334 * 4)
    assert TransportBlock(20000, 40000, 4).block_coded_bits == (3333 * 4, 3333 * 4, 3334 * 4)


@pytest.mark.parametrize(
    ("info_bits", "coded_bits", "bits_per_symbol"),
    [(1, 48, 2), (100, 300, 6), (3824, 8000, 2), (5000, 40000, 4), (30001, 60002, 2), (60000, 80000, 8)],
)
def test_round_trip_through_noise(info_bits: int, coded_bits: int, bits_per_symbol: int) -> None:
    plan, bits = TransportBlock(info_bits, coded_bits, bits_per_symbol), random_bits(3, info_bits)
    coded = plan.encode(bits)
    assert coded.shape == (3, coded_bits)
    decoded = plan.decode(noisy(coded, 0.45))
    assert torch.equal(decoded.bits, bits)
    assert decoded.ok.all()
    assert decoded.block_ok.shape == decoded.iterations.shape == (3, plan.blocks)
    assert decoded.block_ok.all()


@pytest.mark.parametrize(("info_bits", "coded_bits", "blocks"), [(100, 300, 1), (20000, 40000, 3)])
def test_an_empty_batch_stays_empty(info_bits: int, coded_bits: int, blocks: int) -> None:
    plan = TransportBlock(info_bits, coded_bits, 2)
    coded = plan.encode(random_bits(0, info_bits))
    assert coded.shape == (0, coded_bits)
    decoded = plan.decode(coded.float())
    assert decoded.bits.shape == (0, info_bits)
    assert decoded.ok.shape == (0,)
    assert decoded.block_ok.shape == (0, blocks)


def test_one_code_block_is_the_code_with_the_crc_before_it() -> None:
    """C = 1: the coded bits are those of NRLDPC for message and CRC, where the base graph agrees."""
    bits = random_bits(2, 1000)
    expected = NRLDPC(2).encode(CRC16.attach(bits), 2400)
    assert torch.equal(TransportBlock(1000, 2400, 2).encode(bits), expected)


def test_a_lost_code_block_is_named() -> None:
    plan = TransportBlock(30000, 60000, 2)
    bits = random_bits(2, 30000)
    llr = noisy(plan.encode(bits), 0.4)
    assert plan.blocks == 4
    begin = plan.block_coded_bits[0]
    llr[1, begin : begin + plan.block_coded_bits[1]] = torch.randn(plan.block_coded_bits[1])
    decoded = plan.decode(llr)
    assert decoded.block_ok.tolist() == [[True] * 4, [True, False, True, True]]
    assert decoded.ok.tolist() == [True, False]
    assert torch.equal(decoded.bits[0], bits[0])


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e-3, 0.1, 1.0, 100.0])
@pytest.mark.parametrize(("info_bits", "coded_bits"), [(40, 160), (1000, 2000), (20000, 30000)])
def test_noise_alone_is_never_a_message(info_bits: int, coded_bits: int, scale: float) -> None:
    """Above all not the all-zero message, whose CRC is right: erased symbols give LLRs of 0."""
    decoded = TransportBlock(info_bits, coded_bits, 2).decode(scale * torch.randn(50, coded_bits))
    assert not decoded.ok.any()


def test_verdict_and_truth_agree_in_the_waterfall() -> None:
    plan, bits = TransportBlock(2000, 4000, 2), random_bits(300, 2000)
    decoded = plan.decode(noisy(plan.encode(bits), 0.875))
    right = (decoded.bits == bits).all(1)
    assert 0 < int(right.sum()) < 300
    assert not bool((decoded.ok & ~right).any())
    assert int((right & ~decoded.ok).sum()) <= 0.02 * 300


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 100, 2), "0 information bits"),
        ((10, 101, 2), "101 coded bits do not fill symbols of 2"),
        ((10, 0, 2), "0 coded bits"),
        ((1000, 1060, 2), "code rate must not exceed 0.95"),
        ((10, 100, 0), "0 bits per symbol"),
        ((10, 100, 2, 0), "0 iterations"),
    ],
)
def test_plans_that_cannot_be(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ChannelError, match=message):
        TransportBlock(*arguments)


def test_other_lengths_than_planned() -> None:
    plan = TransportBlock(100, 300, 2)
    with pytest.raises(ChannelError, match="message of 99 bits, planned for 100"):
        plan.encode(random_bits(1, 99))
    with pytest.raises(ChannelError, match="298 LLRs, planned for 300"):
        plan.decode(torch.zeros(1, 298))


@pytest.mark.parametrize(
    ("info_bits", "coded_bits"), [(3, 20), (3, 21), (4, 22), (5, 23), (6, 24), (7, 25), (8, 26)]
)
def test_plans_that_no_receiver_can_decode_are_refused(info_bits: int, coded_bits: int) -> None:
    """Of 24 bits with their CRC, 26 coded bits hold 23 equations; one coded bit more is enough for each."""
    with pytest.raises(ChannelError, match="have to be guessed"):
        TransportBlock(info_bits, coded_bits, 1)
    plan, enough = None, coded_bits
    while plan is None:
        enough += 1
        try:
            plan = TransportBlock(info_bits, enough, 1)
        except ChannelError:
            assert (info_bits, enough) == (3, 21)
    messages = (torch.arange(2**info_bits)[:, None] >> torch.arange(info_bits) & 1).to(torch.uint8)
    assert len(plan.encode(messages).unique(dim=0)) == len(messages)
