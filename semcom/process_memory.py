"""Memory that this process may still use, and a refusal in one line before work that needs more."""

import ctypes
import resource
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from semcom.errors import InsufficientMemory

GIB = 1 << 30
ASKED = GIB // 4  # less is allocated without asking
# Peak bytes per source value of sending or measuring an item, by modality, where nothing is stated. Measured
# on pictures of 3 million values: JPEG 40 to 60, SoftCast 114, DeepJSCC 138, AVIF 95, with PSNR, SSIM or SWD
# 113 to 136.
BYTES_PER_VALUE = {"image": 90.0, "video": 6.0}
HELD_PER_VALUE = 12  # of each further realisation: what is observed and what is shown
BYTES_PER_USE = 100  # of a crossing: symbols, fades, noise, y, h, N0, and log-likelihood ratios

_CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = (  # of version 2 and version 1: limit, usage, and what of it can be given back
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


@runtime_checkable
class StatesMemory(Protocol):
    """A transmission, receiver or metric that needs more memory per source value than is usual."""

    @property
    def bytes_per_value(self) -> float:
        """Peak memory per source value, beside the item itself.

        Returns:
            Bytes, as measured on large items on a CPU.
        """
        ...


def bytes_per_value(user: object, modality: str) -> float:
    """Peak memory per source value of a transmission, receiver or metric.

    Args:
        user: The object.
        modality: Name of the modality of the items.

    Returns:
        Bytes: what the object states, or what is usual; 0 for texts and for modalities of other packages.
    """
    return user.bytes_per_value if isinstance(user, StatesMemory) else BYTES_PER_VALUE.get(modality, 0.0)


def sending_bytes(users: Iterable[object], modality: str, values: int, uses: int, realisations: int) -> float:
    """Estimate of the peak memory of sending one item.

        max over users of (bytes per value) n + 12 n (realisations - 1) + 100 k realisations

    On pictures it lies within a factor of 2 of what is measured.

    Args:
        users: Transmission and receiver.
        modality: Name of the modality.
        values: Source dimensions n.
        uses: Channel uses k of the budget.
        realisations: Number of channel realisations at once.

    Returns:
        Bytes.
    """
    held = HELD_PER_VALUE * values * (realisations - 1) if modality in BYTES_PER_VALUE else 0
    each = max(bytes_per_value(user, modality) for user in users)
    return each * values + held + BYTES_PER_USE * uses * realisations


def available_bytes() -> int | None:
    """Memory that this process may still allocate before it, or another process, is killed or refused.

    It is the least of what the machine has available (MemAvailable), what is left of the memory limits of the
    control groups, both versions, and what is left of the resource limits RLIMIT_AS and RLIMIT_DATA.

    Returns:
        Bytes; None on systems without /proc.
    """
    left = [*_machine(), *_control_groups(), *_resource_limits()]
    return max(min(left), 0) if left else None


def peak_bytes() -> int:
    """Largest resident memory of this process so far.

    On Linux it is VmHWM of /proc/self/status: `ru_maxrss` of a process is at least the memory of the process
    that has started it.

    Returns:
        Bytes.
    """
    for line in _lines(Path("/proc/self/status")):
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def require_memory(needed: int | float, purpose: str, cure: str) -> None:
    """Refuse work that needs more memory than there is, before it starts.

    Args:
        needed: Estimate in bytes.
        purpose: What needs it, for the message.
        cure: What to do instead, for the message.

    Raises:
        InsufficientMemory: The estimate is above `available_bytes`.
    """
    left = available_bytes() if needed > ASKED else None
    if left is not None and needed > left:
        raise InsufficientMemory(
            f"{purpose} needs about {needed / GIB:.1f} GiB of memory, {left / GIB:.1f} GiB are available; "
            f"{cure}"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory was refused, by Python, NumPy or PyTorch.

    Args:
        error: Any exception.

    Returns:
        True for MemoryError, and for the RuntimeErrors of PyTorch's allocators.
    """
    words = ("can't allocate memory", "out of memory")  # of the allocators of CPU and GPU
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(part in str(error) for part in words)
    )


def _machine() -> Iterator[int]:
    for line in _lines(Path("/proc/meminfo")):
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            yield int(rest.split()[0]) * 1024


def give_back() -> None:
    """Hand memory that was freed, but is still held by the allocator, back to the operating system.

    Encoders of clips allocate and free tens of megabytes in several threads at every call, of which glibc
    keeps pieces in every thread's heap: after many encodes they add up to hundreds of megabytes. Work that
    repeats for hours calls this between two parts. Where the C library is not glibc nothing happens.

    Reference:
        malloc_trim(3).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _control_groups() -> Iterator[int]:
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, inside = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        names = _LIMITS[bool(controllers)]
        root = _CGROUPS / "memory" if controllers else _CGROUPS
        group = root / inside.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                yield from _left(folder, *names)


def _left(folder: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    """Limit less usage of one control group, if it has a limit."""
    most, used = ("".join(_lines(folder / name)) for name in (limit, usage))
    if most.isdigit() and used.isdigit():
        stats = dict(line.split() for line in _lines(folder / "memory.stat"))
        yield int(most) - int(used) + int(stats.get(reclaimable, 0))


def _resource_limits() -> Iterator[int]:
    sizes = " ".join(_lines(Path("/proc/self/statm"))).split()  # pages; proc(5)
    for kind, field in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY and len(sizes) > field:
            yield soft - int(sizes[field]) * resource.getpagesize()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
