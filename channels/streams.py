"""Named random numbers: the same item meets the same noise, whatever the batch, the order or the restart."""

# torch's and numpy's stubs leave types open
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Sample = Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]]


@runtime_checkable
class Streams(Protocol):
    """A batch of random sources. Every draw has a name, and shape [batch, *shape]."""

    @property
    def batch(self) -> int:
        """Number of items."""
        ...

    def fork(self, name: str) -> "Streams":
        """The sources below this one that belong to `name`; forks of different names are independent."""
        ...

    def select(self, index: Sequence[int]) -> "Streams":
        """The sources of these batch elements."""
        ...

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """N(0, 1), float32."""
        ...

    def uniform(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Uniform on [0, 1), float32."""
        ...

    def bits(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Fair bits, uint8."""
        ...

    def complex_normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """CN(0, 1): circular, E|z|^2 = 1, complex64."""
        ...


@dataclass(frozen=True, slots=True)
class NamedStreams:
    """Counter-based randomness (Philox) keyed by a hash of (root, item, path, purpose).

    Two draws of one name are equal. The first n numbers of a draw do not depend on how many are drawn, so
    noise is common across bandwidth ratios too. Equal item ids get equal numbers: an item repeated over SNRs
    sees one noise realisation scaled, which pairs the comparison.

    Args:
        root: Seed of the experiment.
        items: One id per batch element, for instance "kodim05-1f00ba7e/seed=3".
        path: Names of the forks that lead here.

    Example:
        >>> a = NamedStreams(0, ("x", "y")).normal("noise", (4,))
        >>> b = NamedStreams(0, ("y",)).normal("noise", (9,))
        >>> bool((a[1] == b[0, :4]).all())
        True
    """

    root: int
    items: tuple[str, ...]
    path: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        """Number of items."""
        return len(self.items)

    def fork(self, name: str) -> "NamedStreams":
        """The streams below this one that belong to `name`."""
        return NamedStreams(self.root, self.items, (*self.path, name))

    def select(self, index: Sequence[int]) -> "NamedStreams":
        """The streams of these batch elements."""
        return NamedStreams(self.root, tuple(self.items[i] for i in index), self.path)

    def generator(self, purpose: str, item: str) -> np.random.Generator:
        """The NumPy generator behind one item's draw."""
        text = "\x1f".join((str(self.root), item, *self.path, purpose))
        key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")
        return np.random.Generator(np.random.Philox(key=key))

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """N(0, 1), float32 [batch, *shape]."""
        return self._draw(purpose, shape, lambda g, size: g.standard_normal(size, dtype=np.float32))

    def uniform(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Uniform on [0, 1), float32 [batch, *shape]."""
        return self._draw(purpose, shape, lambda g, size: g.random(size, dtype=np.float32))

    def bits(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Fair bits, uint8 [batch, *shape]."""
        return self._draw(purpose, shape, lambda g, size: g.integers(0, 2, size, dtype=np.uint8))

    def complex_normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """CN(0, 1), complex64 [batch, *shape]; real and imaginary parts alternate in the stream."""
        return torch.view_as_complex(self.normal(purpose, (*shape, 2)) * 0.5**0.5)

    def _draw(self, purpose: str, shape: tuple[int, ...], sample: Sample) -> Tensor:
        if not self.items:
            return torch.from_numpy(sample(self.generator(purpose, ""), (0, *shape)))  # pyright: ignore
        drawn = {
            item: torch.from_numpy(sample(self.generator(purpose, item), shape))  # pyright: ignore
            for item in set(self.items)
        }
        return torch.stack([drawn[item] for item in self.items])


@dataclass(frozen=True, slots=True)
class SharedStreams:
    """One torch generator for a whole batch: fast and nameless, for training only.

    Two draws of one name differ.

    Args:
        generator: Source of all numbers; its device is where they are drawn.
        batch: Number of items.
    """

    generator: torch.Generator
    batch: int

    @classmethod
    def seeded(cls, seed: int, batch: int, device: str | torch.device = "cpu") -> "SharedStreams":
        """Streams from a new generator with this seed."""
        return cls(torch.Generator(device).manual_seed(seed), batch)

    def fork(self, name: str) -> "SharedStreams":
        """The same generator: names are not kept apart."""
        return self

    def select(self, index: Sequence[int]) -> "SharedStreams":
        """The same generator for fewer items."""
        return SharedStreams(self.generator, len(index))

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """N(0, 1), float32 [batch, *shape]."""
        g = self.generator
        return torch.randn((self.batch, *shape), generator=g, device=g.device)

    def uniform(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Uniform on [0, 1), float32 [batch, *shape]."""
        g = self.generator
        return torch.rand((self.batch, *shape), generator=g, device=g.device)

    def bits(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Fair bits, uint8 [batch, *shape]."""
        g = self.generator
        return torch.randint(0, 2, (self.batch, *shape), generator=g, device=g.device, dtype=torch.uint8)

    def complex_normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """CN(0, 1), complex64 [batch, *shape]."""
        return torch.view_as_complex(self.normal(purpose, (*shape, 2)) * 0.5**0.5)
