"""Compilation of Numba kernels, whose machine code is kept on disk where there is a place for it."""

# pyright: basic

from collections.abc import Callable
from typing import Any, Literal

from numba import njit


def compiled(
    boundscheck: bool | None = None, error_model: Literal["python", "numpy"] = "python"
) -> Callable[[Callable[..., Any]], Any]:
    """Decorator that compiles a function on first use, without Python's lock, and keeps the machine code.

    Numba keeps machine code beside the source, in the user's cache folder, or in the folder that
    NUMBA_CACHE_DIR names. Where it can write to none of them, as in a read-only installation without a home
    folder, every process compiles anew: some seconds for the LDPC code.

    Args:
        boundscheck: Whether indices are checked; None leaves it to Numba's settings.
        error_model: "python" raises an error where a number is divided by 0, "numpy" gives inf or NaN.

    Returns:
        The decorator.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        def jit(cache: bool) -> Any:
            return njit(cache=cache, nogil=True, boundscheck=boundscheck, error_model=error_model)(function)

        try:
            return jit(cache=True)
        except RuntimeError:  # no folder for machine code
            return jit(cache=False)

    return decorate
