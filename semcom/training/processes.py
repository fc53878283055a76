"""Communication between the processes of a training run; a single process needs none."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from semcom.errors import InvalidOption


def own_device(device: str) -> str:
    """Device of this process: "cuda" becomes the GPU that belongs to the process.

    Args:
        device: Device as given by the user.

    Returns:
        Device of this process.
    """
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if device == "cuda" and local is not None else device


def is_main() -> bool:
    """Whether this process is the main one, which prints and writes."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True, eq=False)
class Processes:
    """Processes that train one network together; each holds the whole network and a share of the batch.

    Gradients are averaged by one call over all parameters after the backward pass. This makes no demands on
    the network, of which a loss may call any method; overlapping the transfer with the backward pass, as
    DistributedDataParallel does, gains little for networks of a few million weights.

    Args:
        device: Device of this process's network.
        accelerator: `accelerate.Accelerator`, or None for a single process.
    """

    device: torch.device
    accelerator: Any = None

    @classmethod
    def launched(cls, device: torch.device) -> "Processes":
        """Processes started by `accelerate launch` or torchrun, or this process alone.

        Args:
            device: Device of this process's network.

        Returns:
            The processes.

        Raises:
            InvalidOption: Several were started, but accelerate is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(device)
        try:
            from accelerate import Accelerator
        except ImportError:
            raise InvalidOption("training by several processes needs accelerate: semcom[cluster]") from None
        return cls(device, Accelerator(cpu=device.type == "cpu"))

    @property
    def count(self) -> int:
        """Number of processes, at least 1."""
        return self.accelerator.num_processes if self.accelerator else 1

    @property
    def rank(self) -> int:
        """Number of this process; 0 is the main process."""
        return self.accelerator.process_index if self.accelerator else 0

    def share(self, batch: int) -> int:
        """Number of items of a batch that one process draws.

        Args:
            batch: Items per step, over all processes.

        Returns:
            Items per process.

        Raises:
            InvalidOption: The batch cannot be shared evenly.
        """
        if batch % self.count:
            raise InvalidOption(f"batch of {batch} over {self.count} processes; choose a multiple of them")
        return batch // self.count

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the main process.

        Args:
            tensors: Tensors, changed in place.
        """
        if self.accelerator:
            from accelerate.utils import broadcast

            with torch.no_grad():
                for tensor in tensors:
                    tensor.copy_(broadcast(tensor.detach().clone().contiguous()))

    def average(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their means over the processes.

        Args:
            tensors: Tensors, changed in place.
        """
        if self.accelerator:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            mean = self.accelerator.reduce(flat, "mean")
            for tensor, part in zip(tensors, mean.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def total(self, *values: float) -> list[float]:
        """Sum numbers over the processes.

        Args:
            values: Numbers of this process.

        Returns:
            Sums, one per number.
        """
        if not self.accelerator:
            return list(values)
        return self.accelerator.reduce(torch.tensor(values, dtype=torch.float64, device=self.device)).tolist()

    def gather(self, tensor: Tensor) -> Tensor:
        """Collect the tensors of all processes.

        Args:
            tensor: Tensor of this process.

        Returns:
            Tensors on the CPU, stacked in the order of the ranks.
        """
        if not self.accelerator:
            return tensor.cpu()[None]
        return self.accelerator.gather(tensor.to(self.device)[None]).cpu()
