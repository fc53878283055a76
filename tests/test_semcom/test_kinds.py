"""Family and transmitter knowledge of a scheme: from its parts, from its records, and from its name."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from instances import SCHEMES
from toys import UNCODED, pictures

from channels import AWGN
from semcom import names
from semcom.experiment import item_means
from semcom.kinds import FAMILIES, Family, Kind, kind_named, kind_of, kinds_of
from semcom.results import ResultStore
from semcom.sweep import Sweep, run

NAMED: dict[str, tuple[Family, str]] = {
    "avif+ldpc:csit-average": ("digital", "average"),
    "jpeg+ldpc:mcs4": ("digital", "none"),
    "envelope:csit-average": ("digital", "average"),
    "zlib+packets:512:csit-average": ("digital", "average"),
    "avif+packets:2048:mcs4-mcs9": ("digital", "none"),
    "softcast": ("analog", "none"),
    "softcast:csit-average": ("analog", "average"),
    "deepjscc-perceptual": ("analog", "none"),
    "deepjscc-range4": ("analog", "none"),
    "hybrid:avif:mcs6:softcast-residual": ("hybrid", "none"),
    "hybrid:avif:csit-average:softcast": ("hybrid", "average"),
    "deepjscc+diffpir:4:0.5": ("generative receiver", "none"),
    "avif+ldpc:csit-average+ddrm:8": ("generative receiver", "average"),
    "hybrid:avif:mcs6:deepjscc+ddrm:8": ("generative receiver", "none"),
    "avif+ideal:csit-average": ("bound", "average"),
    "genie-envelope": ("bound", "average"),
    "theirs": ("other", ""),
    "their+scheme": ("other", ""),
    "softcastle": ("other", ""),
}


@pytest.mark.parametrize("name", NAMED)
def test_names_tell_the_kind(name: str) -> None:
    assert kind_named(name) == Kind(*NAMED[name])


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_names_of_our_schemes_tell_what_their_parts_are(scheme: Any) -> None:
    kind, named = kind_of(scheme), kind_named(scheme.name)
    assert kind.family in FAMILIES
    if "other" not in (kind.family, named.family):  # parts and names of toys are not ours
        assert named == kind


@dataclass(frozen=True)
class Theirs:
    """A transmission of another package that declares what it knows."""

    plain: Any
    name: str = "theirs"
    csit: str = "average"

    def send(self, x: Any, uses: int, known: Any) -> Any:
        return self.plain.send(x, uses, None)

    def receive(self, received: Any, shape: Any, uses: int) -> Any:
        return self.plain.receive(received, shape, uses)


def test_records_keep_the_kind_of_schemes_of_other_packages(tmp_path) -> None:
    scheme = replace(UNCODED, name="theirs", transmission=Theirs(UNCODED.transmission))
    sweep = Sweep(
        (scheme, names.scheme("softcast")),
        (AWGN(),),
        pictures(1),
        (0.0,),
        ("1/2",),
        (names.metric("psnr_db"),),
    )
    with ResultStore(tmp_path / "records.sqlite") as store:
        list(run(sweep, store))
        frame = store.frame()
    assert kinds_of(frame) == {"softcast": Kind("analog", "none"), "theirs": Kind("other", "average")}
    assert len(item_means(frame)) == 2
    old = frame.assign(family="", csit="")
    assert kinds_of(old)["theirs"] == Kind("other", "")
    assert kinds_of(old.drop(columns=["family", "csit"])) == kinds_of(old)


def test_kinds_are_sorted_and_of_hand_made_frames() -> None:
    import pandas as pd

    frame = pd.DataFrame({"scheme": ["softcast", "deepjscc", "softcast"]})
    assert list(kinds_of(frame)) == ["deepjscc", "softcast"]
