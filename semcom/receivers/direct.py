"""The receiver that shows what arrived."""

from dataclasses import dataclass
from typing import Any, TypeVar

from channels import Streams
from semcom.observation import Observation

X = TypeVar("X")


@dataclass(frozen=True)
class Direct:
    """Shows what the transmission shows by itself; nothing is invented."""

    @property
    def name(self) -> str:
        """Canonical spelling: "direct"."""
        return "direct"

    def __call__(self, observation: Observation[X], shape: Any, rng: Streams) -> X | None:
        """The item as it arrived; None if it was lost."""
        return observation.shown
