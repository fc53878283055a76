"""What the caller has set for torch, numpy and the process changes no result, and is left as it was."""

import copy
import locale
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from instances import CHANNELS, CODECS, GENERATIVE, METRICS, SCHEMES
from PIL import Image, ImageFile
from toys import picture

from channels import AWGN, Channel, NamedStreams, transmit
from semcom import names, send, zoo
from semcom.budget import Budget
from semcom.codecs import Jpeg, Memo, StreamCodec
from semcom.errors import MissingPackage, MissingWeights
from semcom.metrics import metrics_of
from semcom.modalities import MODALITIES, Item
from semcom.modalities.video import Clip
from semcom.provenance import fingerprint
from semcom.results import TIMING
from semcom.scheme import Scheme
from semcom.surroundings import ignored_warnings, library_defaults, one_thread, own_random_numbers
from semcom.sweep import noise_streams

THREADS = 6


@contextmanager
def setting(now: Any, hostile: Any, change: Callable[[Any], object]) -> Iterator[None]:
    change(hostile)
    try:
        yield
    finally:
        change(now)


@contextmanager
def strict_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def pillow_limits(limits: tuple[int | None, bool]) -> None:
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = limits


@contextmanager
def printing() -> Iterator[None]:
    with np.printoptions(linewidth=20, precision=2):
        torch.set_printoptions(linewidth=20, precision=2)
        try:
            yield
        finally:
            torch.set_printoptions(profile="default", linewidth=80)


HOSTILE: dict[str, Callable[[], Any]] = {
    "float64": lambda: setting(torch.float32, torch.float64, torch.set_default_dtype),
    "meta device": lambda: setting(None, "meta", torch.set_default_device),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": lambda: setting(0, 2, torch.set_deterministic_debug_mode),
    "products": lambda: setting("highest", "medium", torch.set_float32_matmul_precision),
    "numpy errors": lambda: np.errstate(all="raise"),
    "warnings": strict_warnings,
    "denormal": lambda: setting(False, True, torch.set_flush_denormal),
    "pillow": lambda: setting((Image.MAX_IMAGE_PIXELS, False), (1, True), pillow_limits),
    "printing": printing,
}


def state() -> dict[str, object]:
    """All that a caller may have set, and the random generators.

    Python's own is left out, since beartype, which checks the types in these tests, draws from it.
    """
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "inference": torch.is_inference_mode_enabled(),
        "gradients": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": torch.get_deterministic_debug_mode(),
        "products": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "numpy": np.geterr(),
        "printing": np.get_printoptions()["linewidth"],
        "warnings": list(warnings.filters),
        "denormal": float(torch.full((), 1e-310, dtype=torch.float64, device="cpu") * 1.0),
        "pillow": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES),
        "locale": locale.setlocale(locale.LC_ALL),
        "numpy random": repr(np.random.get_state()),  # noqa: NPY002
        "torch random": torch.random.get_rng_state().numpy().tobytes(),
    }


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """Records and pictures under the initial settings."""
    with library_defaults():
        found = {name: sent(name) for name in SENT}
    return found  # outside, since the settings of whoever is inside are those that count


SENT = (
    "jpeg+ldpc",
    "learned+ldpc:mcs3",
    "softcast",
    "deepjscc",
    "deepjscc-2019",
    "deepjscc+ddrm:2",
    "deepjscc+posterior:3",
    "jpeg+ldpc:mcs3+consistency:2",
    "hybrid:jpeg:mcs3:softcast-residual:0.6",
    "envelope",
)


def sent(name: str) -> tuple[Any, torch.Tensor]:
    found = send(picture("toy", 48, 64), name, "rayleigh:64", 12.0, 0.5, metrics=("psnr_db", "swd", "ssim"))
    x_hat = found.outcome.x_hat
    numbers = {k: v for k, v in found.record.numbers.items() if k != "peak_memory_mb"}
    return replace(found.record, numbers=numbers, **dict.fromkeys(TIMING, 0.0)), x_hat


@pytest.mark.parametrize("hostile", HOSTILE)
def test_the_caller_changes_nothing_and_is_left_alone(hostile: str, expected: dict[str, Any]) -> None:
    names_of_all = SENT if hostile in ("float64", "inference mode") else SENT[::3]
    with HOSTILE[hostile]():
        before = state()
        found = {name: sent(name) for name in names_of_all}
        after = state()
    assert {key for key in before if before[key] != after[key]} == set()
    for name, (record, x_hat) in found.items():
        assert record == expected[name][0]
        assert torch.equal(x_hat, expected[name][1])
        assert not x_hat.requires_grad


def test_everything_at_once_in_six_threads(expected: dict[str, Any]) -> None:
    """The caller's settings that belong to a thread are set in each of them."""

    def one(name: str) -> tuple[Any, torch.Tensor]:
        with torch.inference_mode(), np.errstate(all="raise"), torch.autocast("cpu", torch.bfloat16):
            return sent(name)

    with HOSTILE["float64"](), HOSTILE["warnings"](), HOSTILE["pillow"](), HOSTILE["deterministic"]():
        before = state()
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(one, SENT * 2))
        after = state()
    assert {key for key in before if before[key] != after[key]} == set()
    for name, (record, x_hat) in zip(SENT * 2, found, strict=True):
        assert record == expected[name][0]
        assert torch.equal(x_hat, expected[name][1])


def fresh(thing: Any) -> Any:
    """With empty caches."""
    return copy.deepcopy(thing)


def in_threads(work: Callable[[Any], Any], jobs: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, jobs))


def alike(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, Clip):
        return torch.equal(a.frames, b.frames)
    return a == b


@pytest.mark.slow
@pytest.mark.parametrize("scheme", [*SCHEMES, *GENERATIVE], ids=lambda scheme: scheme.name)
def test_a_scheme_serves_six_threads(scheme: Scheme[Any]) -> None:
    """One scheme, several pictures of one size, at once: bit for bit what they are one by one."""

    def one(job: tuple[Scheme[Any], Item[Any], int]) -> list[Any]:
        chosen, item, seed = job
        rng = noise_streams(item.id, seed, 2)
        outcomes = chosen.transmit(
            item.x, Budget(900, item.x.numel()), AWGN(), torch.tensor([2.0, 15.0]), rng
        )
        return [o.x_hat for o in outcomes] + [(o.channel_uses, o.outage, o.cause) for o in outcomes]

    shared, alone = fresh(scheme), fresh(scheme)
    items = [picture(f"toy{i}", 16, 24, seed=i) for i in range(3)]
    jobs = [(item, seed) for seed in range(2) for item in items]
    found = in_threads(one, [(shared, *job) for job in jobs])
    for job, several in zip(jobs, found, strict=True):
        assert all(map(alike, several, one((alone, *job))))


@pytest.mark.slow
@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
def test_a_channel_serves_six_threads(channel: Channel) -> None:
    x = torch.ones(2, 300, dtype=torch.complex64)

    def one(number: int) -> list[torch.Tensor]:
        received = transmit(channel, x, 7.0, NamedStreams(number, ("a", "b")))
        return [received.y, received.h, received.noise_var]

    for number, found in enumerate(in_threads(one, list(range(12)))):
        assert all(map(alike, found, one(number)))


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_a_codec_serves_six_threads(codec: Any) -> None:
    x = [picture(f"toy{i}", 16, 24, seed=i).x for i in range(4)]
    quality = codec.qualities[-len(codec.qualities) // 8]

    def one(i: int) -> tuple[bytes, torch.Tensor]:
        payload = codec.encode(x[i], quality)
        return payload, codec.decode(payload, (1, 3, 16, 24))

    for i, found in zip([0, 1, 2, 3] * 3, in_threads(one, [0, 1, 2, 3] * 3), strict=True):
        assert all(map(alike, found, one(i)))


def works(metric: Any, x: Any) -> bool:
    """Whether the weights of its network, or its package, are on this machine."""
    try:
        metric(x, x)
    except (MissingWeights, MissingPackage):
        return False
    return True


def test_metrics_serve_six_threads() -> None:
    x, noise = picture("toy", 64, 64).x, torch.rand(1, 3, 64, 64)
    received = [(x + (i + 1) * 0.02 * (noise - 0.5)).clamp(0, 1) for i in range(4)]
    measures = [metric for metric in metrics_of("image") if works(metric, x)]

    def one(i: int) -> list[float]:
        return [metric(received[i], x) for metric in measures]

    # with several threads of torch, others may change their number meanwhile, and with it the order of sums
    accuracy = 0.0 if torch.get_num_threads() == 1 else 1e-5
    for i, found in zip([0, 1, 2, 3] * 3, in_threads(one, [0, 1, 2, 3] * 3), strict=True):
        assert found == pytest.approx(one(i), rel=accuracy, abs=0)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_metrics_are_what_they_are(hostile: str) -> None:
    texts = ("a bird in the hand", "a bird in hand")
    x, y = picture("toy", 64, 64).x, picture("toy", 64, 64, seed=1).x
    image = [((x, y), metric) for kind, metric in METRICS if kind == "image" and works(metric, x)]
    measures = image + [
        (texts, metric) for kind, metric in METRICS if kind == "text" and works(metric, texts[0])
    ]
    expected = [metric(*pair) for pair, metric in measures]
    with HOSTILE[hostile]():
        before = state()
        assert [metric(*pair) for pair, metric in measures] == expected
        assert state() == before


@pytest.mark.parametrize("hostile", HOSTILE)
def test_fingerprints_are_what_they_are(hostile: str) -> None:
    expected = [fingerprint(names.scheme(name)) for name in SENT]
    with HOSTILE[hostile]():
        assert [fingerprint(names.scheme(name)) for name in SENT] == expected


SMALL: dict[str, tuple[Any, ...]] = {
    "AdaptiveDeepJSCC": ((8, 16, 24), (1, 1), (1, 1, 1)),
    "Bourtsoulatze2019": (2,),
    "DecoderRefinement": (4, (8, 8, 8), (1, 1, 1), 8),
    "MeanScaleHyperprior": (160, 8, 8),
    "NaturalImagePrior": ((8, 8), (1, 1)),
    "PictureRefiner": ((8, 8), (1, 1)),
    "FramePredictor": ((8, 8), 4),
    "StraightAutoencoder": (1, 8, (4, 4, 4, 4), (4, 4, 4, 4)),
    "TokenJSCC": (64, 16, 1, 2, 8),
}


@pytest.mark.parametrize("hostile", ["float64", "meta device", "inference mode", "deterministic"])
@pytest.mark.parametrize("name", zoo.CLASSES)
def test_networks_that_callers_build_are_what_they_are(name: str, hostile: str) -> None:
    """Single precision and the same initial weights, on the CPU, fit for training."""
    torch.manual_seed(0)
    expected = zoo.CLASSES[name](*SMALL[name]).state_dict()
    with HOSTILE[hostile]():
        torch.manual_seed(0)
        network = zoo.CLASSES[name](*SMALL[name])
    for key, value in network.state_dict().items():
        assert torch.equal(value, expected[key])
        assert value.dtype == expected[key].dtype
        assert value.dtype == torch.float32 or not value.is_floating_point()
    assert not any(parameter.is_inference() for parameter in network.parameters())


@pytest.mark.parametrize("modality", MODALITIES, ids=lambda modality: modality.name)
def test_covers_have_no_double_precision(modality: Any) -> None:
    if modality.name == "image":
        with HOSTILE["float64"]():
            assert modality.cover((1, 3, 4, 4)).dtype == torch.float32


def test_overlapping_blocks_restore_what_was_before() -> None:
    """The first one to enter leaves before the last one."""
    filters = list(warnings.filters)
    with HOSTILE["float64"](), HOSTILE["warnings"]():
        first, second, third = library_defaults(), ignored_warnings(), library_defaults()
        first.__enter__()
        second.__enter__()
        third.__enter__()
        assert torch.get_default_dtype() == torch.float32
        second.__exit__(None, None, None)
        third.__exit__(None, None, None)
        assert torch.get_default_dtype() == torch.float32
        warnings.warn("no error inside", UserWarning, stacklevel=1)
        first.__exit__(None, None, None)
        assert torch.get_default_dtype() == torch.float64
        with pytest.raises(UserWarning):
            warnings.warn("an error outside", UserWarning, stacklevel=1)
    assert warnings.filters == filters


def test_an_error_inside_restores_too() -> None:
    def failing() -> None:
        with library_defaults(), one_thread():
            raise ZeroDivisionError

    with HOSTILE["float64"]():
        before = state()
        with pytest.raises(ZeroDivisionError):
            failing()
        assert state() == before


def test_a_cache_serves_six_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take turns, and threads change places between looking at the last one and using its key."""
    x = [picture(f"toy{i}", 16, 16, seed=i).x for i in range(6)]
    codec = StreamCodec(Jpeg())
    payloads = [codec.encode(each, codec.qualities[-30]) for each in x]
    memo, equal = Memo(codec), torch.equal

    def slowly(a: torch.Tensor, b: torch.Tensor) -> bool:
        found = equal(a, b)
        time.sleep(1e-3)
        return found

    monkeypatch.setattr(torch, "equal", slowly)
    jobs = [i % 6 for i in range(120)]
    assert in_threads(lambda i: memo.encode(x[i], codec.qualities[-30]), jobs) == [payloads[i] for i in jobs]


def test_overlapping_blocks_restore_the_random_generator() -> None:
    before = torch.random.get_rng_state()
    first, second = own_random_numbers(), own_random_numbers()
    first.__enter__()
    torch.rand(3)
    second.__enter__()
    first.__exit__(None, None, None)
    torch.manual_seed(7)
    second.__exit__(None, None, None)
    assert torch.equal(torch.random.get_rng_state(), before)
