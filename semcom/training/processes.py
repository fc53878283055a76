"""One training by one process or by many: what they share at every step."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from semcom.errors import InvalidOption


def own_device(device: str) -> str:
    """`device`, where "cuda" is this process's own GPU of the machine."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if device == "cuda" and local is not None else device


def is_main() -> bool:
    """Whether this process is the one that prints and writes."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True, eq=False)
class Processes:
    """The processes that train one network together; each holds all of it and a share of the batch.

    Gradients are averaged by one call over all parameters after the backward pass. That asks nothing of the
    network, of which a loss may call any method; hiding the transfer behind the backward pass, as
    DistributedDataParallel does, gains little for networks of a few million weights.

    Args:
        device: Of this process's network.
        accelerator: `accelerate.Accelerator`, or None where this process is alone.
    """

    device: torch.device
    accelerator: Any = None

    @classmethod
    def launched(cls, device: torch.device) -> "Processes":
        """Those that `accelerate launch` or torchrun has started, or this one alone.

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
        """How many there are."""
        return self.accelerator.num_processes if self.accelerator else 1

    @property
    def rank(self) -> int:
        """Number of this one; 0 is the main process."""
        return self.accelerator.process_index if self.accelerator else 0

    def share(self, batch: int) -> int:
        """Of a batch, what one process draws.

        Raises:
            InvalidOption: The batch cannot be shared evenly.
        """
        if batch % self.count:
            raise InvalidOption(f"batch of {batch} over {self.count} processes; choose a multiple of them")
        return batch // self.count

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite the tensors by those of the main process."""
        if self.accelerator:
            from accelerate.utils import broadcast

            with torch.no_grad():
                for tensor in tensors:
                    tensor.copy_(broadcast(tensor.detach().clone().contiguous()))

    def average(self, tensors: list[Tensor]) -> None:
        """Replace the tensors by their means over the processes."""
        if self.accelerator:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            mean = self.accelerator.reduce(flat, "mean")
            for tensor, part in zip(tensors, mean.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def total(self, *values: float) -> list[float]:
        """Sums of numbers over the processes."""
        if not self.accelerator:
            return list(values)
        return self.accelerator.reduce(torch.tensor(values, dtype=torch.float64, device=self.device)).tolist()

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, on the CPU, stacked in the order of their ranks."""
        if not self.accelerator:
            return tensor.cpu()[None]
        return self.accelerator.gather(tensor.to(self.device)[None]).cpu()
