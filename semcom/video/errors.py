"""Expected error of decoded clips: measured per video codec, predicted from what a receiver knows."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from semcom.errors import InvalidOption, UnsuitableEvidence
from semcom.files import write_whole
from semcom.modalities.video import Clip
from semcom.observation import Origin

TABLE = Path(__file__).parent.parent / "tables" / "clip_errors.json"
FEATURES = ("1", "log2 bits per value", "log2 scale", "ln detail", "ln change")
"""Names of the numbers from which errors are predicted."""
SPEEDS = ("-slow", "-live")
"""Ends of the names of codecs that share the table of their medium speed."""
LEAST_LEVEL = 0.1  # of 8 bits; added to detail and change, which may be 0


@dataclass(frozen=True, slots=True)
class ErrorLaw:
    """Law of the error of one codec's decoded clips.

        ln s = weights . features(decoded clip, bits per value, scale)

    with s the root mean square error of the decoded clip in units of [-1, 1].

    Args:
        weights: One weight per entry of `FEATURES`.
        residual_std: Standard deviation of ln s around the law, on clips that it was not fitted to.
    """

    weights: tuple[float, ...]
    residual_std: float

    @classmethod
    def fit(
        cls, features: Float[np.ndarray, "clips features"], errors: Float[np.ndarray, " clips"]
    ) -> "ErrorLaw":
        """Fit the law by least squares of ln s.

        Args:
            features: One row of `features_of` per decoded clip.
            errors: Root mean square error s per decoded clip, above 0.

        Returns:
            The law, with the standard deviation of its own residuals.
        """
        weights = np.linalg.lstsq(features, np.log(errors), rcond=None)[0]
        residual = np.log(errors) - features @ weights
        return cls(tuple(weights.tolist()), float(np.sqrt(np.mean(residual**2))))

    def error(self, features: Float[np.ndarray, " features"]) -> float:
        """Expected root mean square error of a decoded clip.

        Args:
            features: Numbers of `features_of`.

        Returns:
            The error s in units of [-1, 1].
        """
        return math.exp(float(np.dot(features, self.weights)))


def features_of(decoded: Clip, log2_bits: float, scale: int) -> Float[np.ndarray, " features"]:
    """Numbers from which the error of a decoded clip is predicted, in the order of `FEATURES`.

    Detail is the mean absolute difference between neighbouring pixels of a frame, change that between
    consecutive frames, both in levels of 8 bits plus 0.1. The change of a single frame is 0.

    Args:
        decoded: The decoded clip.
        log2_bits: Binary logarithm of the payload's bits per source value.
        scale: Factor by which the clip was reduced before coding, 1, 2 or 4.

    Returns:
        The features.
    """
    detail = change = 0.0
    before = None
    for frame in decoded.frames:  # frame by frame, to save memory
        levels = frame.float()
        steps = [levels.diff(dim=dim).abs() for dim in (1, 2)]
        detail += sum(float(step.mean()) for step in steps if step.numel()) / 2
        if before is not None:
            change += float((levels - before).abs().mean())
        before = levels
    count = len(decoded.frames)
    logarithms = [math.log(x + LEAST_LEVEL) for x in (detail / count, change / max(count - 1, 1))]
    return np.array([1.0, log2_bits, math.log2(scale), *logarithms])


def expected_error(decoded: Clip, origin: Origin, laws: Mapping[str, ErrorLaw]) -> float:
    """Expected root mean square error of a decoded clip, as its receiver knows it.

    Args:
        decoded: The decoded clip.
        origin: Name of the codec, and the point (log2 of bits per source value, log2 of the scale).
        laws: Laws by name of the codec.

    Returns:
        The error in units of [-1, 1].

    Raises:
        UnsuitableEvidence: The error of this codec has not been measured.
    """
    name = origin.code
    for speed in SPEEDS:
        name = name.removesuffix(speed)
    if name not in laws:
        raise UnsuitableEvidence(
            f"nobody has measured the errors of clips by {origin.code}; choose one of "
            f"{', '.join(sorted(laws))}, or measure it by scripts/measure_clip_errors.py"
        )
    log2_bits, log2_scale = origin.point
    return laws[name].error(features_of(decoded, log2_bits, round(2**log2_scale)))


@cache
def shipped_laws() -> Mapping[str, ErrorLaw]:
    """Load the laws of the package, made by scripts/measure_clip_errors.py.

    Returns:
        Laws by name of the codec.
    """
    return read_laws(TABLE)


def read_laws(path: Path) -> dict[str, ErrorLaw]:
    """Read laws from a JSON file.

    Args:
        path: File written by `write_laws`.

    Returns:
        Laws by name of the codec.

    Raises:
        InvalidOption: The file cannot be read, or does not hold such laws.
    """
    try:
        content = json.loads(path.read_text())["codecs"]
        laws = {
            name: ErrorLaw(tuple(float(entry["weights"][key]) for key in FEATURES), entry["residual_std"])
            for name, entry in content.items()
        }
    except OSError as error:
        raise InvalidOption(f"{path}: {error.strerror}; make it by scripts/measure_clip_errors.py") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidOption(f"{path} is not a file of errors of clips ({type(error).__name__})") from None
    return laws


def write_laws(path: Path, laws: Mapping[str, ErrorLaw], about: Sequence[str]) -> None:
    """Write laws to a JSON file, with four significant digits.

    Args:
        path: File to write.
        laws: Laws by name of the codec.
        about: Description for readers of the file, by line.
    """
    codecs = {
        name: {
            "weights": {key: float(f"{w:.4g}") for key, w in zip(FEATURES, law.weights, strict=True)},
            "residual_std": float(f"{law.residual_std:.3g}"),
        }
        for name, law in sorted(laws.items())
    }
    write_whole(path, json.dumps({"about": list(about), "codecs": codecs}, indent=1) + "\n")
