"""Parts common to all grammars: families of names, suggestions for misspelt names, and imported objects."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from channels.errors import ChannelError
from semcom.errors import InvalidOption, UnknownName, closest

IMPORTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""Pattern of the name of a user's own object: `package.module:NAME`."""


@dataclass(frozen=True)
class Listed:
    """One line of a listing.

    Args:
        name: A name that works as it is.
        about: Description of one line.
    """

    name: str
    about: str


@dataclass(frozen=True)
class Family:
    """Objects whose names have one pattern, `head:parameter:parameter`.

    Args:
        pattern: Pattern of the names, optional parameters in brackets.
        about: Description of one line for the listing.
        build: Function from the parameters to the object; a wrapper gets the wrapped channel as first
            argument.
        kinds: Conversion from text to value, one per parameter.
        least: Number of required parameters.
        example: A name that works as it is.
        wraps: For a wrapper that does not accept every channel: the attribute it needs, and a description of
            the channels that have it.
        whole: Whether the text after the first colon is a single parameter that may contain colons.
    """

    pattern: str
    about: str
    build: Callable[..., Any]
    kinds: tuple[Callable[[str], Any], ...]
    least: int
    example: str
    wraps: tuple[str, str] = ("", "")
    whole: bool = False


def family(
    pattern: str,
    about: str,
    build: Callable[..., Any],
    *kinds: Callable[[str], Any],
    example: str,
    wraps: tuple[str, str] = ("", ""),
    whole: bool = False,
) -> Family:
    """Make a `Family`; its optional parameters are those in brackets in the pattern.

    Args:
        pattern: Pattern of the names, optional parameters in brackets.
        about: Description of one line for the listing.
        build: Function from the parameters to the object.
        kinds: Conversion from text to value, one per parameter.
        example: A name that works as it is.
        wraps: For a wrapper that does not accept every channel: the attribute it needs, and a description of
            the channels that have it.
        whole: Whether the text after the first colon is a single parameter that may contain colons.

    Returns:
        The family.
    """
    return Family(pattern, about, build, kinds, len(kinds) - pattern.count("["), example, wraps, whole)


def built(what: str, families: Mapping[str, Family], text: str, *first: Any) -> Any:
    """Make the object of a name.

    Args:
        what: Kind of object, for messages, such as "channel".
        families: Families by head.
        text: The name.
        first: Arguments before the parameters, such as the channel inside a wrapper.

    Returns:
        The object.

    Raises:
        UnknownName: No family has this head.
        InvalidOption: A parameter is missing, not a number, or out of range.
    """
    head, colon, rest = text.partition(":")
    if head not in families:
        raise UnknownName(unknown(what, text, [family.example for family in families.values()]))
    family = families[head]
    parameters = ([rest] if family.whole else rest.split(":")) if colon else []
    spelled = f"{what} {text!r}: it is spelled {family.pattern}, for instance {family.example}"
    if not family.least <= len(parameters) <= len(family.kinds):
        raise InvalidOption(spelled)
    try:
        values = [kind(parameter) for kind, parameter in zip(family.kinds, parameters, strict=False)]
    except ValueError:
        raise InvalidOption(spelled) from None
    member, owners = family.wraps
    for inner in first:
        if member and member not in dir(inner):
            raise InvalidOption(
                f"{what} {text!r} works on {owners}, not on {inner.name}; see {family.example}"
            )
    try:
        return family.build(*first, *values)
    except ChannelError as error:
        raise InvalidOption(f"{what} {text!r}: {error}") from None


def imported(spec: str, what: str, members: Sequence[str]) -> Any:
    """Import the object that `package.module:NAME` names.

    Args:
        spec: The name.
        what: Kind of object, for messages.
        members: Attributes that the object must have.

    Returns:
        The object.

    Raises:
        UnknownName: The module cannot be imported, or has no such attribute.
        InvalidOption: The object is a class, or lacks one of the attributes.
    """
    module_name, attribute = spec.split(":")
    try:
        module = import_module(module_name)
    except Exception as error:  # a foreign module may raise any exception
        raise UnknownName(f"{what} {spec!r}: importing {module_name} failed ({_first_line(error)})") from None
    if attribute not in dir(module):
        near = closest(attribute, [name for name in dir(module) if not name.startswith("_")])
        raise UnknownName(f"{what} {spec!r}: {module_name} has no {attribute}{near}")
    thing = getattr(module, attribute)
    if isinstance(thing, type):
        raise InvalidOption(f"{what} {spec!r} is a class; name an object made from it")
    missing = [member for member in members if member not in dir(thing)]
    if missing:
        raise InvalidOption(f"{what} {spec!r} is a {type(thing).__name__} without {', '.join(missing)}")
    return thing


def optional(head: str, parts: Sequence[str]) -> str:
    """Pattern of a name with optional trailing parts: `head[:<part>[:<part>]]`.

    Args:
        head: First part of the name.
        parts: Names of the optional parts, in order.

    Returns:
        The pattern.
    """
    return head + "".join(f"[:<{part}>" for part in parts) + "]" * len(parts)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Error message for an unknown name, with similar known names.

    Args:
        what: Kind of object, such as "channel".
        name: The unknown name.
        known: All known names.

    Returns:
        One line.
    """
    known = list(known)
    return f"no {what} called {name!r}{closest(name, known) or '; for instance ' + ', '.join(known[:4])}"


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
