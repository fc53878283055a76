"""What every codec of every modality keeps, those of third parties included."""

import pickle
import random
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from guests.codec import COARSE
from guests.modality import WAVEFORM
from instances import A_MEMORY, CODECS, CODECS_WITH_MEMORY, LETTERS

from semcom.codecs import CLIP_CODECS, TEXT_CODECS, SourceCodec, fit
from semcom.errors import BudgetTooSmall, CorruptPayload
from semcom.modalities import IMAGE, TEXT, VIDEO, Clip, Modality
from semcom.provenance import fingerprint


@dataclass(frozen=True)
class Case:
    """A codec with the modality of what it codes, and an item."""

    codec: SourceCodec[Any]
    modality: Modality[Any]
    x: Any

    @property
    def name(self) -> str:
        return f"{self.modality.name}-{self.codec.name}"


def a_photo() -> torch.Tensor:
    """An eye, [1, 3, 32, 48]."""
    from skimage import data

    return torch.from_numpy(data.astronaut()[100:132, 210:258]).permute(2, 0, 1)[None].float() / 255


PHOTO = a_photo()
CLIP = Clip(torch.stack([(255 * PHOTO[0]).round().byte().roll(i, 2) for i in range(3)]), Fraction(25))
WORDS = "Each packet that was lost is asked for again, " * 6
SOUND = (9000 * np.sin(np.arange(600) / 3)).astype(np.int16)

KNOWN: dict[str, Any] = {
    VIDEO.name: Clip(torch.cat([(255 * x).round().byte() for x in A_MEMORY.pictures[:2]]), Fraction(25)),
    TEXT.name: f"{LETTERS.sentences[1]} {WORDS}{LETTERS.sentences[4]} {LETTERS.sentences[0]}",
}
"""Items that are stored in part."""

CASES = (
    *(Case(codec, IMAGE, PHOTO) for codec in CODECS),
    *(Case(codec, VIDEO, CLIP) for codec in CLIP_CODECS),
    *(Case(codec, TEXT, WORDS) for codec in TEXT_CODECS),
    Case(COARSE, WAVEFORM, SOUND),
    *(Case(codec, modality, KNOWN[modality.name]) for modality, codec in CODECS_WITH_MEMORY),
)
every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def decoded(case: Case, payload: bytes) -> Any:
    """The item that the payload decodes to; it is one of the modality and has the shape of the original."""
    x_hat = case.modality.check(case.codec.decode(payload, case.modality.shape(case.x)))
    assert case.modality.shape(x_hat) == case.modality.shape(case.x)
    return x_hat


def some(case: Case) -> bytes:
    """A payload of middling quality."""
    return case.codec.encode(case.x, case.codec.qualities[len(case.codec.qualities) // 2])


@every
def test_what_it_is(case: Case) -> None:
    codec = case.codec
    assert isinstance(codec, SourceCodec)
    assert codec.name
    assert not set(" \n+") & set(codec.name)
    expected = sorted(codec.qualities, key=lambda quality: (-quality.scale, quality.setting))
    assert list(codec.qualities) == expected
    assert len(set(expected)) == len(expected)


@every
def test_bytes_are_all_that_the_decoder_needs(case: Case) -> None:
    """A codec that has never seen the item decodes it, and equal items have equal bytes."""
    stranger = pickle.loads(pickle.dumps(case.codec))
    assert fingerprint(stranger) == fingerprint(case.codec)
    before = case.modality.digest(case.x)
    payload = some(case)
    assert case.modality.digest(case.x) == before
    assert some(case) == payload
    shape = case.modality.shape(case.x)
    one, two = (case.modality.digest(codec.decode(payload, shape)) for codec in (case.codec, stranger))
    assert one == two == case.modality.digest(decoded(case, payload))


@every
def test_a_number_of_bits_is_kept(case: Case) -> None:
    whole = 8 * len(some(case))
    fitted = fit(case.codec, case.x, whole)
    assert 8 * len(fitted.payload) <= whole
    assert fitted.quality in case.codec.qualities
    shown = case.modality.digest(decoded(case, fitted.payload))
    assert case.modality.digest(fitted.decoded) == shown
    with pytest.raises(BudgetTooSmall) as caught:
        fit(case.codec, case.x, 1)
    assert "\n" not in str(caught.value)


@every
def test_any_bytes_are_decoded_or_reported(case: Case) -> None:
    rng = random.Random(0)
    payload = some(case)
    wrong = [payload[: len(payload) * i // 8] for i in range(8)]
    wrong += [rng.randbytes(length) for length in (1, 2, 10, 100)]
    for _ in range(10):
        changed = bytearray(payload)
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        wrong.append(bytes(changed))
    messages: list[str] = []
    for data in wrong:
        try:
            decoded(case, data)
        except CorruptPayload as error:
            messages.append(str(error))
    assert not any("\n" in message for message in messages)
    assert messages or case.codec.name == "utf8"  # of which every prefix is a text
