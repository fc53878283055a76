"""Kernels work where no machine code can be kept."""

from typing import Any

import numba
import pytest

from channels.compiled import compiled

READ_ONLY = "/proc/version"
"""A file in a folder in which nobody can write, root included."""


def test_where_nothing_can_be_written_kernels_are_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, "/proc/none")
    names: dict[str, Any] = {}
    exec(compile("def half(x):\n    return x / 2\n", READ_ONLY, "exec"), names)
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(names["half"])
    assert compiled(boundscheck=False)(names["half"])(3) == 1.5


def test_machine_code_is_kept_where_it_can_be() -> None:
    from channels.fec import kernels

    assert type(kernels.encode._cache).__name__ == "FunctionCache"  # pyright: ignore
