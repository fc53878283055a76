"""Named random numbers: an item sees the same noise in any batch, order of schemes, or restart."""

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
    """Random number streams for a batch of items; every draw is named by its purpose."""

    @property
    def batch(self) -> int:
        """Number of items in the batch; the first axis of every draw."""
        ...

    def fork(self, name: str) -> "Streams":
        """Derive independent streams for one part of the simulation.

        Args:
            name: Name of the part; forks with different names are independent.

        Returns:
            Streams for the same items.
        """
        ...

    def select(self, index: Sequence[int]) -> "Streams":
        """Restrict the streams to some items of the batch.

        Args:
            index: Batch elements to keep, in the order wanted.

        Returns:
            Streams whose batch is `len(index)`.
        """
        ...

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw standard normal numbers, N(0, 1).

        Args:
            purpose: Name of the draw.
            shape: Shape of the draw of one item.

        Returns:
            Samples, float32 [batch, *shape].
        """
        ...

    def uniform(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw numbers uniform on [0, 1).

        Args:
            purpose: Name of the draw.
            shape: Shape of the draw of one item.

        Returns:
            Samples, float32 [batch, *shape].
        """
        ...

    def bits(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw independent bits, 0 or 1 with equal probability.

        Args:
            purpose: Name of the draw.
            shape: Shape of the draw of one item.

        Returns:
            Bits, uint8 [batch, *shape].
        """
        ...

    def complex_normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw circularly symmetric complex normal numbers, CN(0, 1), with E|z|^2 = 1.

        Args:
            purpose: Name of the draw.
            shape: Shape of the draw of one item.

        Returns:
            Samples, complex64 [batch, *shape].
        """
        ...


@dataclass(frozen=True, slots=True)
class NamedStreams:
    """Counter-based random streams (Philox), keyed by a hash of root, item, path and purpose.

    Two draws with the same name are equal. The first n numbers of a draw do not depend on how many are drawn,
    so transmissions at different bandwidth ratios share their noise. Items with the same id get the same
    numbers: an item repeated over several SNRs sees one noise realisation at several scales, which pairs the
    comparison.

    Args:
        root: Seed of the experiment.
        items: One id per batch element, for instance "kodim05-1f00ba7e/seed=3".
        path: Names of the forks that lead to these streams.

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
        """Number of items in the batch."""
        return len(self.items)

    def fork(self, name: str) -> "NamedStreams":
        """Streams for these items with `name` appended to the path, independent of other forks."""
        return NamedStreams(self.root, self.items, (*self.path, name))

    def select(self, index: Sequence[int]) -> "NamedStreams":
        """Streams of the batch elements in `index`, in that order."""
        return NamedStreams(self.root, tuple(self.items[i] for i in index), self.path)

    def generator(self, purpose: str, item: str) -> np.random.Generator:
        """NumPy generator that produces the numbers of one draw of one item.

        Args:
            purpose: Name of the draw.
            item: Id of the item.

        Returns:
            A Philox generator at the start of its stream.
        """
        text = "\x1f".join((str(self.root), item, *self.path, purpose))
        key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")
        return np.random.Generator(np.random.Philox(key=key))

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw N(0, 1) as float32 [batch, *shape], equal for equal names."""
        return self._draw(purpose, shape, lambda g, size: g.standard_normal(size, dtype=np.float32))

    def uniform(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw uniform numbers on [0, 1) as float32 [batch, *shape], equal for equal names."""
        return self._draw(purpose, shape, lambda g, size: g.random(size, dtype=np.float32))

    def bits(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw fair bits as uint8 [batch, *shape], equal for equal names."""
        return self._draw(purpose, shape, lambda g, size: g.integers(0, 2, size, dtype=np.uint8))

    def complex_normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw CN(0, 1) as complex64 [batch, *shape]; real and imaginary parts alternate in the stream."""
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
    """Random streams from one torch generator for a whole batch: fast, nameless, for training only.

    Names are ignored: two draws with the same name differ.

    Args:
        generator: Source of all numbers; draws are made on its device.
        batch: Number of items.
    """

    generator: torch.Generator
    batch: int

    @classmethod
    def seeded(cls, seed: int, batch: int, device: str | torch.device = "cpu") -> "SharedStreams":
        """Create streams from a new generator.

        Args:
            seed: Seed of the generator.
            batch: Number of items.
            device: Device on which numbers are drawn.

        Returns:
            Streams for `batch` items.
        """
        return cls(torch.Generator(device).manual_seed(seed), batch)

    def fork(self, name: str) -> "SharedStreams":
        """Return these streams unchanged, because names are ignored."""
        return self

    def select(self, index: Sequence[int]) -> "SharedStreams":
        """Streams of `len(index)` items from the same generator."""
        return SharedStreams(self.generator, len(index))

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw N(0, 1) as float32 [batch, *shape] on the generator's device."""
        g = self.generator
        return torch.randn((self.batch, *shape), generator=g, device=g.device, dtype=torch.float32)

    def uniform(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw uniform numbers on [0, 1) as float32 [batch, *shape] on the generator's device."""
        g = self.generator
        return torch.rand((self.batch, *shape), generator=g, device=g.device, dtype=torch.float32)

    def bits(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw fair bits as uint8 [batch, *shape] on the generator's device."""
        g = self.generator
        return torch.randint(0, 2, (self.batch, *shape), generator=g, device=g.device, dtype=torch.uint8)

    def complex_normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw CN(0, 1) as complex64 [batch, *shape] on the generator's device."""
        return torch.view_as_complex(self.normal(purpose, (*shape, 2)) * 0.5**0.5)
