"""Settings of torch, numpy, Pillow and Python's warnings under which items are sent, measured and trained."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Lock

import numpy as np
import torch


@contextmanager
def library_defaults() -> Iterator[None]:
    """Context manager and decorator: torch, numpy and Pillow with the settings they are imported with.

    Results must not depend on what the caller has set. Inside of the block these have their initial values,
    and afterwards the caller's again: default dtype and device, deterministic algorithms, precision of matrix
    products, autocast, inference mode, disabled gradients, flushing of denormal numbers, `numpy.seterr`,
    Pillow's size limit and tolerance of truncated files, warnings as errors. Random generators are left
    alone, and so is the number of threads (see `one_thread`).

    Some of these settings belong to the whole process. They are saved when the first thread enters such a
    block and restored when the last one leaves, so that blocks of several threads may overlap. Meanwhile,
    other threads of the caller see the initial values too.

    Yields:
        None.

    Example:
        >>> torch.set_default_dtype(torch.float64)
        >>> with library_defaults():
        ...     torch.zeros(1).dtype
        torch.float32
        >>> torch.get_default_dtype()
        torch.float64
        >>> torch.set_default_dtype(torch.float32)
    """
    with _PROCESS.held(), torch.inference_mode(False), torch.enable_grad(), ExitStack() as mine:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                mine.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":  # the context slows every call of torch
            mine.enter_context(torch.device("cpu"))
        mine.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        if _denormal_is_flushed():
            torch.set_flush_denormal(False)
            mine.callback(torch.set_flush_denormal, True)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Context manager: torch computes by one thread, since sums depend on the number of threads.

    Afterwards the caller's number is restored.

    Yields:
        None.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def ignored_warnings() -> Iterator[None]:
    """Context manager that ignores warnings; several threads may overlap, unlike `warnings.catch_warnings`.

    Yields:
        None.
    """
    with _PROCESS.held(), _IGNORED.held():  # nested, so that filters are restored in the reverse order
        yield


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Context manager and decorator: torch's global generator may be seeded and used, and is restored.

    Several threads may overlap, unlike in `torch.random.fork_rng`. Generators of GPUs are not restored.

    Yields:
        None.
    """
    with _RANDOM.held():
        yield


def _denormal_is_flushed() -> bool:
    """Whether this thread rounds denormal numbers to 0; torch has no function that tells."""
    return bool(torch.full((), 1e-310, dtype=torch.float64, device="cpu") * 1.0 == 0)


class _Shared:
    """A context of the whole process that the first thread enters and the last one leaves."""

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self._make, self._lock, self._holders = make, Lock(), 0

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            if self._holders == 0:
                self._context = self._make()
                self._context.__enter__()
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0:
                    self._context.__exit__(None, None, None)


@contextmanager
def _process_defaults() -> Iterator[None]:
    dtype, deterministic = torch.get_default_dtype(), torch.get_deterministic_debug_mode()
    precision, pillow = torch.get_float32_matmul_precision(), _pillow_limits()
    with ExitStack() as changed:
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            changed.callback(torch.set_default_dtype, dtype)
        if deterministic:
            torch.set_deterministic_debug_mode("default")
            changed.callback(torch.set_deterministic_debug_mode, deterministic)
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
            changed.callback(torch.set_float32_matmul_precision, precision)
        if pillow is not None:
            _set_pillow_limits((None, False))  # codecs compare sizes before they decode
            changed.callback(_set_pillow_limits, pillow)
        if any(_is_strict(entry) for entry in warnings.filters):
            changed.enter_context(warnings.catch_warnings())
            warnings.filters[:] = [entry for entry in warnings.filters if not _is_strict(entry)]  # pyright: ignore
            warnings.simplefilter("default", append=True)
        yield


@contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _is_strict(entry: tuple[object, ...]) -> bool:
    """Whether a filter turns warnings of any module into errors."""
    return entry[0] == "error" and entry[3] is None


def _pillow_limits() -> tuple[int | None, bool] | None:
    """Limit of pixels, and tolerance of truncated files; None if nobody has imported Pillow yet."""
    if "PIL.ImageFile" not in sys.modules:
        return None
    from PIL import Image, ImageFile

    return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES


def _set_pillow_limits(limits: tuple[int | None, bool]) -> None:
    from PIL import Image, ImageFile

    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = limits


_PROCESS = _Shared(_process_defaults)
_IGNORED = _Shared(_no_warnings)
_RANDOM = _Shared(lambda: torch.random.fork_rng(devices=()))
