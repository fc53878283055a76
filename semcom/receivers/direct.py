"""Receiver that shows the decoded item unchanged."""

from dataclasses import dataclass
from typing import Any, TypeVar

from channels import Streams
from semcom.observation import Observation

X = TypeVar("X")


@dataclass(frozen=True)
class Direct:
    """Receiver that shows the decoded item unchanged, without a prior."""

    @property
    def name(self) -> str:
        """Canonical name, always "direct"."""
        return "direct"

    def __call__(self, observation: Observation[X], shape: Any, rng: Streams) -> X | None:
        """Return the decoded item; None if it was lost."""
        return observation.shown
