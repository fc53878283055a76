"""What is made of records of the familiarity circuit, and the circuit on photographs."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import script_modules

from semcom.circuit.circuit import respond, untrained
from semcom.circuit.filters import sparse_code
from semcom.circuit.measures import geometry, late_to_peak, principal, sparseness
from semcom.circuit.protocol import associate, noisy_versions

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "familiarity"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return script_modules.script("familiarity")


def records(kind: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((RESULTS / "records").glob(f"{kind}-*.json"))]


@pytest.mark.slow
def test_tables_are_made_of_the_committed_records(script: ModuleType) -> None:
    """The committed page of tables, to the letter, and three figures."""
    sets = records("set")
    rocs = [json.loads((RESULTS / "records" / f"roc-{n}.json").read_text()) for n in script.ALBUMS]
    crossing = json.loads((RESULTS / "records" / "crossing.json").read_text())
    novel = json.loads((RESULTS / "records" / "novelty.json").read_text())
    made = (script.geometry_tables(sets), script.front_end_table(sets), script.roc_table(rocs))
    last = (script.crossing_table(crossing), script.novelty_table(novel))
    assert "".join((*made, *last)) == (RESULTS / "table.md").read_text()
    for figure in (script.geometry_figure(sets), script.front_end_figure(sets), script.roc_figure(rocs)):
        assert figure.axes


@pytest.mark.slow
def test_areas_and_identification(script: ModuleType) -> None:
    """Areas under ROC curves by counting pairs; nearest clean states by hand."""
    assert script.area([0.0, 1.0], [2.0, 3.0]) == 1
    assert script.area([0.0, 2.0], [1.0, 2.0]) == (2 + 0 + 0.5) / 4
    states = np.zeros((2, 2, 2, 1))
    states[1, 0] = 10  # clean states 0 and 10; noisy ones of the first picture at 4 and 6
    states[0, 1, :, 0], states[1, 1] = (4, 6), 9
    assert script.identified(states) == [0.75]


@pytest.mark.slow
@pytest.mark.shared
def test_contraction_suppression_and_sparsening_of_photographs(script: ModuleType, shared_data: Path) -> None:
    """Untrained, the distance falls by 25 % at 10 % of noise; one epoch suppresses familiar pictures more."""
    pictures = script.crops(shared_data / "photos" / "val", 10, seed=0)
    codes = sparse_code(noisy_versions(pictures, patterns=4))
    familiar, novel = codes[:5], codes[5:]
    novice = untrained(8, 8)
    states = respond(novice, familiar.reshape(-1, 4096)).rates.reshape(familiar.shape)
    found = []
    for each in (familiar, states):
        axes, _ = principal(each.reshape(-1, 4096))
        found.append(geometry(each.mean(axis=2) @ axes))
    inputs, untouched = (f.distance.mean(axis=0) for f in found)
    assert untouched[0] < 0.75 * inputs[0]
    assert untouched[1] < 0.85 * inputs[1]
    assert (found[1].alignment.mean(axis=0) > found[0].alignment.mean(axis=0)).all()
    trained = associate(novice, familiar, 1)[-1].circuit
    change, sparser = {}, {}
    for group, stimuli in (("familiar", familiar), ("novel", novel)):
        before, after = (respond(c, stimuli[:, 0, 0]) for c in (novice, trained))
        change[group] = late_to_peak(after.trace.mean(axis=0)) / late_to_peak(before.trace.mean(axis=0)) - 1
        alive = (before.rates > 0).any(axis=0) & (after.rates > 0).any(axis=0)
        sparser[group] = (sparseness(after.rates) - sparseness(before.rates))[alive].mean()
    assert change["familiar"] < -0.1
    assert change["familiar"] < change["novel"]
    assert sparser["familiar"] > 0
