"""Links of the pages in this repository lead to files, and every folder of results has a page and a row."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *sorted((ROOT / "results").rglob("*.md")),
    *sorted((ROOT / "semcom" / "weights").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    """Relative targets of all links and images exist."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t.split("#")[0]).exists()]
    assert not missing


def test_every_experiment_has_a_page() -> None:
    """Each folder has a page that opens with its question and findings, and is linked from the overview."""
    overview = (ROOT / "results" / "README.md").read_text()
    for folder in sorted(path for path in (ROOT / "results").iterdir() if path.is_dir()):
        page = (folder / "README.md").read_text()
        opening = page.split("\n## ")[0]
        assert "**Question.**" in opening, folder.name
        assert 3 <= opening.count("\n- ") <= 5, folder.name
        assert f"({folder.name}/README.md)" in overview, folder.name
