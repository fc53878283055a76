"""Familiarity: whether a picture is in an album, and which one it is, by a circuit or by its neighbours."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from semcom.circuit.circuit import Circuit, respond, untrained
from semcom.circuit.filters import CHANNELS, grid, sparse_code
from semcom.circuit.measures import late_to_peak
from semcom.circuit.protocol import familiarise
from semcom.errors import InvalidSource
from semcom.operators import Grey

SIDE = 32
"""Side in pixels of the thumbnails that are judged."""

CONTRAST = 0.25
"""Standard deviation to which thumbnails are scaled."""

BLANK = 0.01
"""Standard deviation below which a thumbnail has nothing to be recognised by."""

DECOYS = 56
"""Largest number of mirrored and turned thumbnails that the threshold is chosen on."""

FALSE_HITS = 0.05
"""Largest share of decoys that pass for familiar."""

JudgeName = Literal["circuit", "nearest"]
"""Ways to judge familiarity."""

JUDGES: tuple[JudgeName, ...] = get_args(JudgeName)
"""Names of the ways to judge familiarity."""


def thumbnail(x: Tensor) -> Float[np.ndarray, "32 32"] | None:
    """Grey picture of 32x32 means over areas, with mean 0 and a fixed contrast.

    Args:
        x: Picture [1, 3, height, width] in [0, 1].

    Returns:
        Thumbnail of standard deviation `CONTRAST`; None for a picture with hardly any contrast.
    """
    grey = torch.nn.functional.adaptive_avg_pool2d(Grey().A(x.double()), (SIDE, SIDE))[0, 0].cpu().numpy()
    grey = grey - grey.mean()
    std = float(grey.std())
    return grey * (CONTRAST / std) if std >= BLANK else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Judgement of one picture.

    Args:
        score: Score; the lower, the more familiar.
        familiar: Whether the score is below the threshold.
        index: Number of the most similar picture of the album.
    """

    score: float
    familiar: bool
    index: int


@runtime_checkable
class Judge(Protocol):
    """A judge of familiarity that knows the thumbnails of an album."""

    @property
    def threshold(self) -> float:
        """Score below which a picture counts as familiar."""
        ...

    def scores(self, thumbnails: Float[np.ndarray, "n 32 32"]) -> tuple[np.ndarray, np.ndarray]:
        """Score thumbnails, and find the most similar pictures of the album.

        Args:
            thumbnails: Results of `thumbnail`.

        Returns:
            Scores [n], low for familiar pictures, and numbers of pictures [n].
        """
        ...


@dataclass(frozen=True, eq=False)
class NearestCode:
    """Judge by the angle between sparse codes: the nearest neighbour, without any circuit.

    Args:
        codes: Codes of the album, of unit norm, [pictures, cells].
        threshold: Score below which a picture counts as familiar; the score is 1 - cosine.
    """

    codes: Float[np.ndarray, "pictures cells"]
    threshold: float

    def scores(self, thumbnails: Float[np.ndarray, "n 32 32"]) -> tuple[np.ndarray, np.ndarray]:
        """One minus the largest cosine, and the picture it belongs to."""
        similar = _unit(sparse_code(thumbnails)) @ self.codes.T
        return 1 - similar.max(axis=1), similar.argmax(axis=1)


@dataclass(frozen=True, eq=False)
class FamiliarCircuit:
    """Judge by familiarity suppression in a circuit that was shown the album.

    The score is the late/peak ratio of the population rate, over that of the untrained circuit for the same
    picture: pictures differ more in this ratio than training changes it. The most similar picture is that of
    the nearest response, by angle.

    Args:
        trained: Circuit after training on the album.
        novice: The circuit before training.
        responses: Late responses of the trained circuit to the album, of unit norm, [pictures, cells].
        threshold: Score below which a picture counts as familiar.
    """

    trained: Circuit
    novice: Circuit
    responses: Float[np.ndarray, "pictures cells"]
    threshold: float

    def scores(self, thumbnails: Float[np.ndarray, "n 32 32"]) -> tuple[np.ndarray, np.ndarray]:
        """Relative late/peak ratio, and the picture of the nearest response."""
        codes = sparse_code(thumbnails)
        answer = respond(self.trained, codes)
        before = late_to_peak(respond(self.novice, codes).trace)
        index = (_unit(answer.rates) @ self.responses.T).argmax(axis=1)
        return late_to_peak(answer.trace) / np.maximum(before, 1e-12), index


def judge_of(name: JudgeName, thumbnails: Float[np.ndarray, "pictures 32 32"]) -> Judge:
    """Make a judge that knows an album, and choose its threshold on decoys.

    Decoys are pictures of the album, mirrored and turned: they have the statistics of the album, and are not
    in it. At most `FALSE_HITS` of them score below the threshold. A circuit is trained for about 0.3 s per
    picture; equal albums share it.

    Args:
        name: "circuit" or "nearest".
        thumbnails: Results of `thumbnail`, at least one.

    Returns:
        The judge.

    Raises:
        InvalidSource: There is no thumbnail.
    """
    if not len(thumbnails):
        raise InvalidSource("no picture of the album has any contrast; nothing in it can be familiar")
    return _judge_of(name, thumbnails.tobytes())


def judged(judge: Judge, x: Tensor) -> Verdict | None:
    """Judge whether one picture is familiar, and which of the album it resembles most.

    Args:
        judge: The judge.
        x: Picture [1, 3, height, width] in [0, 1].

    Returns:
        The verdict; None for a picture with hardly any contrast, which is not familiar to anyone.
    """
    small = thumbnail(x)
    if small is None:
        return None
    scores, index = judge.scores(small[None])
    return Verdict(float(scores[0]), bool(scores[0] < judge.threshold), int(index[0]))


def decoys(thumbnails: Float[np.ndarray, "pictures 32 32"]) -> Float[np.ndarray, "decoys 32 32"]:
    """Mirror and turn thumbnails in the seven ways that a square allows.

    Args:
        thumbnails: Thumbnails of an album.

    Returns:
        At most `DECOYS`, spread evenly over pictures and ways.
    """
    turned = [np.rot90(thumbnails, k, (1, 2)) for k in range(4)]
    ways = np.stack([*turned[1:], *(image[:, :, ::-1] for image in turned)], axis=1)
    every = ways.reshape(-1, SIDE, SIDE)
    return np.ascontiguousarray(
        every[np.linspace(0, len(every) - 1, min(DECOYS, len(every))).round().astype(int)]
    )


@lru_cache(maxsize=4)
def _judge_of(name: JudgeName, album: bytes) -> Judge:
    thumbnails = np.frombuffer(album).reshape(-1, SIDE, SIDE)
    codes = sparse_code(thumbnails)
    if name == "nearest":
        made: Judge = NearestCode(_unit(codes), 0.0)
        return NearestCode(_unit(codes), _threshold(made, thumbnails))
    novice = untrained(*grid(SIDE, SIDE), CHANNELS)
    trained = familiarise(novice, codes)[-1].circuit
    responses = _unit(respond(trained, codes).rates)
    made = FamiliarCircuit(trained, novice, responses, 0.0)
    return FamiliarCircuit(trained, novice, responses, _threshold(made, thumbnails))


def _threshold(judge: Judge, thumbnails: Float[np.ndarray, "pictures 32 32"]) -> float:
    scores = np.sort(judge.scores(decoys(thumbnails))[0])
    return float(scores[int(FALSE_HITS * len(scores))])


def _unit(vectors: Float[np.ndarray, "n cells"]) -> Float[np.ndarray, "n cells"]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths > 0)
