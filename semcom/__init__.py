"""Generative semantic communication: sources, codecs, networks, receivers and their measurement.

The names below are loaded when they are first used, so `import semcom` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semcom.budget import Budget
    from semcom.data import load, load_folder, load_image, sample_photos
    from semcom.modalities import Item
    from semcom.observation import Observation
    from semcom.results import Record, ResultStore
    from semcom.scheme import Outcome, Scheme
    from semcom.sending import Sending, send
    from semcom.sweep import Sweep, run

__version__ = "0.1.0"

_HOMES = {
    "Budget": "semcom.budget",
    "Item": "semcom.modalities",
    "Observation": "semcom.observation",
    "Outcome": "semcom.scheme",
    "Record": "semcom.results",
    "ResultStore": "semcom.results",
    "Scheme": "semcom.scheme",
    "Sending": "semcom.sending",
    "Sweep": "semcom.sweep",
    "load": "semcom.data",
    "load_folder": "semcom.data",
    "load_image": "semcom.data",
    "run": "semcom.sweep",
    "sample_photos": "semcom.data",
    "send": "semcom.sending",
}

__all__ = [
    "Budget",
    "Item",
    "Observation",
    "Outcome",
    "Record",
    "ResultStore",
    "Scheme",
    "Sending",
    "Sweep",
    "__version__",
    "load",
    "load_folder",
    "load_image",
    "run",
    "sample_photos",
    "send",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
