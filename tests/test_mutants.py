"""Defects that simulators of this kind have had, put into ours, are caught by named tests."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATCHES = sorted((ROOT / "tests" / "mutants").glob("*.patch"))
APPLY = ("git", "apply", "--recount", "-C1")

NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def named_test(patch: Path) -> str:
    """The `# test:` line of the header."""
    header = re.search(r"^# test: (.+)$", patch.read_text(), re.MULTILINE)
    assert header, f"{patch.name} names no test"
    return header[1]


def copied(target: Path) -> Path:
    for folder in ("channels", "semcom", "tests"):  # compiled files too: all but the mutated one stay valid
        shutil.copytree(ROOT / folder, target / folder)
    shutil.copy(ROOT / "pyproject.toml", target)
    return target


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit status and output of pytest, for all named tests on the code as it is and for each mutant."""
    scratch = tmp_path_factory.mktemp("mutants")
    jobs = [(copied(scratch / "as-it-is"), sorted(set(map(named_test, PATCHES))))]
    refused: dict[str, tuple[int, str]] = {}
    for patch in PATCHES:
        mutant = copied(scratch / patch.stem)
        applied = subprocess.run(
            [*APPLY, str(patch)],
            cwd=mutant,
            env=os.environ | {"GIT_CEILING_DIRECTORIES": str(scratch)},
            capture_output=True,
            text=True,
        )
        if applied.returncode:
            refused[patch.stem] = (-1, f"the patch no longer applies: {applied.stderr}")
        else:
            jobs.append((mutant, [named_test(patch)]))
    listed = scratch / "jobs.json"
    listed.write_text(json.dumps([(str(folder), tests) for folder, tests in jobs]))
    runner = [sys.executable, str(ROOT / "tests" / "fork_pytest.py"), str(listed)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    done = subprocess.run(runner, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    return refused | {Path(folder).name: tuple(result) for folder, result in results.items()}


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_patch_applies(patch: Path) -> None:
    """A defect whose place in the code has changed is found before the slow tests."""
    done = subprocess.run([*APPLY, "--check", str(patch)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"write {patch.name} anew: {done.stderr}"


@NEEDS_FORK
@pytest.mark.slow
def test_named_tests_pass_on_the_code_as_it_is(outcomes: dict[str, tuple[int, str]]) -> None:
    status, output = outcomes["as-it-is"]
    assert status == 0, output


@NEEDS_FORK
@pytest.mark.slow
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_mutant_is_caught(patch: Path, outcomes: dict[str, tuple[int, str]]) -> None:
    status, output = outcomes[patch.stem]
    assert status == pytest.ExitCode.TESTS_FAILED, output
    failed = any(words in output for words in ("AssertionError", "assert ", "DID NOT RAISE"))
    assert failed, f"it broke instead of failing: {output}"
