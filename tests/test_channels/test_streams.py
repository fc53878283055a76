"""Named randomness: equal names, equal numbers."""

import math

import pytest
import torch
from scipy import stats

from channels import NamedStreams, SharedStreams

DRAWS = ["normal", "uniform", "bits", "complex_normal"]


@pytest.mark.parametrize("draw", DRAWS)
def test_item_is_independent_of_the_batch(draw: str) -> None:
    together = getattr(NamedStreams(7, ("a", "b", "c")), draw)("noise", (33,))
    alone = getattr(NamedStreams(7, ("b",)), draw)("noise", (33,))
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("draw", DRAWS)
def test_first_numbers_do_not_depend_on_the_count(draw: str) -> None:
    streams = NamedStreams(7, ("a", "b"))
    few, many = (getattr(streams, draw)("noise", (n,)) for n in (101, 4096))
    assert torch.equal(few, many[:, :101])


@pytest.mark.parametrize("draw", DRAWS)
def test_names_are_kept_apart(draw: str) -> None:
    streams = NamedStreams(7, ("a",))
    reference = getattr(streams, draw)("noise", (64,))
    others = [
        getattr(streams, draw)("fading", (64,)),
        getattr(streams.fork("channel"), draw)("noise", (64,)),
        getattr(NamedStreams(8, ("a",)), draw)("noise", (64,)),
        getattr(NamedStreams(7, ("b",)), draw)("noise", (64,)),
        getattr(streams.fork("x").fork("y"), draw)("noise", (64,)),
        getattr(streams.fork("y").fork("x"), draw)("noise", (64,)),
    ]
    assert all(not torch.equal(reference, other) for other in others)
    assert torch.equal(reference, getattr(streams, draw)("noise", (64,)))


def test_separators_do_not_collide() -> None:
    a = NamedStreams(1, ("a",), ("b", "c")).normal("d", (8,))
    b = NamedStreams(1, ("a",), ("bc",)).normal("d", (8,))
    assert not torch.equal(a, b)


def test_repeated_item_gets_equal_numbers_and_select_keeps_them() -> None:
    streams = NamedStreams(7, ("a", "b", "a"))
    x = streams.normal("noise", (16,))
    assert torch.equal(x[0], x[2])
    assert torch.equal(streams.select([2, 1]).normal("noise", (16,)), x[[2, 1]])
    assert streams.select([1]).batch == 1


@pytest.mark.parametrize("draw", DRAWS)
def test_no_items_no_numbers(draw: str) -> None:
    none, one = (getattr(NamedStreams(7, items), draw)("noise", (5, 3)) for items in ((), ("a",)))
    assert none.shape == (0, 5, 3)
    assert none.dtype == one.dtype


@pytest.mark.parametrize("streams", [NamedStreams(3, ("a",)), SharedStreams.seeded(3, 1)])
def test_laws(streams: NamedStreams | SharedStreams) -> None:
    n = 40_000
    assert stats.kstest(streams.normal("n", (n,))[0].numpy(), "norm").pvalue > 1e-4
    assert stats.kstest(streams.uniform("u", (n,))[0].numpy(), "uniform").pvalue > 1e-4
    assert abs(streams.bits("b", (n,)).double().mean() - 0.5) < 5 * 0.5 / math.sqrt(n)
    z = streams.complex_normal("z", (n,))[0].to(torch.complex128)
    assert abs(z.abs().square().mean() - 1) < 5 / math.sqrt(n)  # |z|^2 is exponential: mean 1, deviation 1
    assert abs((z * z).mean()) < 5 * math.sqrt(2 / n)  # circular: E z^2 = 0


def test_shared_streams_move_on() -> None:
    streams = SharedStreams.seeded(0, 2)
    assert not torch.equal(streams.normal("n", (8,)), streams.normal("n", (8,)))
    assert streams.select([0]).normal("n", (8,)).shape == (1, 8)
