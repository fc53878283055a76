"""Kind of a scheme: its family, and what its transmitter knows; comparisons are made between kinds."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from semcom.scheme import Scheme

Family = Literal["digital", "analog", "hybrid", "generative receiver", "bound", "other"]

FAMILIES: tuple[Family, ...] = ("digital", "analog", "hybrid", "generative receiver", "bound", "other")
"""All families. A bound uses what no receiver has; it is drawn for comparison and never wins."""

KNOWLEDGE = {
    "none": "transmitter not told the SNR",
    "average": "transmitter told the average SNR",
    "": "what the transmitter knows is not recorded",
}
"""Words for each kind of channel knowledge of the transmitter (`csit`)."""

LINKS = ("ldpc", "packets")
ANALOG = ("softcast", "deepjscc")


@dataclass(frozen=True, slots=True)
class Kind:
    """Family of a scheme and the channel knowledge of its transmitter.

    Args:
        family: One of `FAMILIES`.
        csit: "none", "average", or empty if it is not recorded.
    """

    family: Family
    csit: str


def kind_of(scheme: "Scheme[Any]") -> Kind:
    """Classify a scheme by the types of its parts; csit is what its transmission declares.

    Args:
        scheme: Any scheme, of another package too.

    Returns:
        The kind; the family is "other" if the type of the transmission is not of this package.
    """
    return Kind(_family_of(scheme), scheme.transmission.csit)


def _family_of(scheme: "Scheme[Any]") -> Family:
    from semcom.analog import Analog
    from semcom.circuit.cache import FamiliarityCache
    from semcom.envelope import Envelope
    from semcom.hybrid import Hybrid
    from semcom.jscc.softcast import SoftCast
    from semcom.packetised import Packetised
    from semcom.receivers import Direct
    from semcom.reduced import Reduced, ReducedAtLowRate
    from semcom.separate import Separate
    from semcom.transmission import Genie

    if isinstance(scheme.transmission, Genie):
        return "bound"
    if not isinstance(scheme.receiver, Direct):
        return "generative receiver"
    match scheme.transmission:
        case Hybrid():
            return "hybrid"
        case Separate() | Envelope() | Packetised() | FamiliarityCache():
            return "digital"
        case Analog() | SoftCast() | Reduced() | ReducedAtLowRate():
            return "analog"
        case _:
            return "other"


def kind_named(name: str) -> Kind:
    """Classify a scheme by its canonical name, for records that do not tell.

    Args:
        name: Name such as "avif+ldpc:csit-average+ddrm:8".

    Returns:
        The kind; family "other" and empty csit for names that do not follow the grammar of this package.

    Example:
        >>> kind_named("avif+ldpc:mcs8"), kind_named("deepjscc+diffpir:4").family
        (Kind(family='digital', csit='none'), 'generative receiver')
    """
    first, *rest = name.split("+")
    link = rest[0].split(":")[0] if rest else ""
    csit = "average" if "csit-average" in name else "none"
    if link == "ideal" or first == "genie-envelope":
        return Kind("bound", "average")
    own = first.split(":")[0]
    if own == "hybrid":
        family, receivers = "hybrid", rest
    elif own == "envelope":
        family, receivers = "digital", rest
    elif own in ANALOG or own.startswith(tuple(f"{code}-" for code in ANALOG)):
        family, receivers = "analog", rest
    elif link in LINKS:
        family, receivers = "digital", rest[1:]
    else:
        return Kind("other", "average" if csit == "average" else "")
    return Kind("generative receiver" if receivers else family, csit)


def kinds_of(records: "pd.DataFrame") -> dict[str, Kind]:
    """Kinds of all schemes in the records, from columns "family" and "csit", else from the names.

    Args:
        records: Records, one per row; the two columns may be absent or empty, as in old stores.

    Returns:
        Kinds by name of the scheme, sorted by name.
    """
    told: dict[str, Kind] = {}
    if {"family", "csit"} <= set(records.columns):
        rows = records[["scheme", "family", "csit"]].drop_duplicates()
        for name, family, csit in rows.itertuples(index=False):
            if family in FAMILIES:
                told[str(name)] = Kind(family, csit)
    names = sorted(map(str, records["scheme"].unique()))
    return {name: told.get(name) or kind_named(name) for name in names}
