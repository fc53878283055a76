"""Run one test in each of many folders, one forked process per folder, with the heavy imports done once.

Usage:   python tests/fork_pytest.py JOBS.json
Reads:   [[folder, [test, ...]], ...]; each folder is a root with channels/, semcom/ and tests/
Prints:  {folder: [exit status of pytest, output], ...} as JSON
"""

import contextlib
import importlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path

HEAVY = ("torch", "numpy", "scipy.special", "scipy.stats", "jaxtyping", "pytest", "numba")


def run(folder: str, tests: list[str], report: Path) -> int:
    """In the child: nothing of the program has been imported yet, so that the folder's own is."""
    import pytest

    os.chdir(folder)
    sys.path.insert(0, folder)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # nor is any annotation checked: half of the time
    options = ["-q", "-x", "--tb=line", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = pytest.main([*options, *tests])
    report.write_text(output.getvalue())
    return int(status)


def main() -> None:
    for name in HEAVY:
        importlib.import_module(name)
    results: dict[str, tuple[int, str]] = {}
    for folder, tests in json.loads(Path(sys.argv[1]).read_text()):
        with tempfile.TemporaryDirectory() as scratch:
            report = Path(scratch) / "report"
            child = os.fork()
            if child == 0:
                os._exit(run(folder, tests, report))
            _, waited = os.waitpid(child, 0)
            text = report.read_text() if report.exists() else ""
            results[folder] = (os.waitstatus_to_exitcode(waited), text)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
