"""What a metric needs beyond this package: weights in the torch cache, or optional packages."""

from importlib.util import find_spec
from typing import Protocol, runtime_checkable

from semcom.errors import MissingPackage


@runtime_checkable
class Demanding(Protocol):
    """A metric that needs weights or packages which may be absent."""

    def require(self) -> None:
        """Check that the metric can be computed on this machine, without computing anything.

        Raises:
            MissingWeights: A weights file is absent, damaged or another file.
            MissingPackage: A package is not installed.
        """
        ...


def require_package(module: str, package: str, needed_by: str, extra: str = "video") -> None:
    """Check that an optional package is installed, without importing it.

    Args:
        module: Name of the module to import, such as "vmaf_torch".
        package: Name of the package in registries, such as "vmaf-torch".
        needed_by: Name of the metric, the first word of an error message.
        extra: Extra of this package that has it.

    Raises:
        MissingPackage: The package is not installed.
    """
    if find_spec(module) is None:
        raise MissingPackage(
            f"{needed_by}: the package {package} is not installed; pip install 'semcom[{extra}]'"
        )
