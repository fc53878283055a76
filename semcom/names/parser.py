"""What all grammars share: families of names, suggestions, and objects imported by name."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from channels.errors import ChannelError
from semcom.errors import InvalidOption, UnknownName

IMPORTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""How an object of the user's is named: `package.module:NAME`."""


@dataclass(frozen=True)
class Listed:
    """A line of a listing.

    Args:
        name: A name that works.
        about: What it stands for.
    """

    name: str
    about: str


@dataclass(frozen=True)
class Family:
    """Objects that are spelled alike: `head:parameter:parameter`.

    Args:
        pattern: Their spelling, optional parameters in brackets.
        about: One line for the listing.
        build: From the parameters to the object; wrappers get the channel before them.
        kinds: From the text of each parameter to its value.
        least: Parameters that cannot be left out.
        example: A name that works.
        wraps: Of a wrapper that does not take every channel: the member it needs, and who has it.
        whole: Whether what stands behind the first colon is one parameter, with colons of its own.
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
    """A family whose optional parameters are those in brackets of its pattern; see `Family`."""
    return Family(pattern, about, build, kinds, len(kinds) - pattern.count("["), example, wraps, whole)


def built(what: str, families: Mapping[str, Family], text: str, *first: Any) -> Any:
    """Make the object of a name.

    Args:
        what: Kind of object, for messages ("channel").
        families: Spellings by head.
        text: The name.
        first: Arguments before the parameters, such as the channel inside a wrapper.

    Returns:
        The object.

    Raises:
        UnknownName: No family of this head.
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
    """The object that `package.module:NAME` stands for.

    Args:
        spec: The name.
        what: Kind of object, for messages.
        members: Names of what the object must have.

    Returns:
        The object.

    Raises:
        UnknownName: No such module or attribute, or importing the module fails.
        InvalidOption: The object is a class, or lacks a member.
    """
    module_name, attribute = spec.split(":")
    try:
        module = import_module(module_name)
    except Exception as error:  # whatever a foreign module raises while it is imported
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
    """Spelling of a name with trailing parts that may be left out: `head[:<part>[:<part>]]`."""
    return head + "".join(f"[:<{part}>" for part in parts) + "]" * len(parts)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Message for a name that nothing has, with the nearest known ones."""
    known = list(known)
    return f"no {what} called {name!r}{closest(name, known) or '; for instance ' + ', '.join(known[:4])}"


def closest(name: str, known: Iterable[str]) -> str:
    """Known names near to one, as the end of a message; empty if there are none."""
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near)}?" if near else ""


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
