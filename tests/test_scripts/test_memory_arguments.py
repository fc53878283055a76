"""Scripts of representations and memories refuse silly arguments in one line, before they measure."""

from pathlib import Path

import pytest
from script_modules import script

from semcom.errors import InvalidSource


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("associative_memory", "--parts gat", "'gat' is none of vectors"),
        ("associative_memory", "--parts vectors,", "'' is none of"),
        ("associative_memory", "--trials 0", "choose at least 1"),
        ("associative_memory", "--pictures 0", "choose at least 1"),
        ("associative_memory", "--others many", "no whole number"),
        ("loss_plateau", "--parts plateaus", "is none of plateau"),
        ("loss_plateau", "--seconds a,b,c", "commas between"),
        ("loss_plateau", "--seconds 1", "3 finite numbers"),
        ("loss_plateau", "--seconds 1,nan,1", "3 finite numbers"),
        ("loss_plateau", "--vectors 1", "choose at least 2"),
        ("loss_plateau", "--pictures 0", "choose at least 1"),
        ("familiarity", "--sets 0", "choose at least 1"),
        ("straightening", "--seeds -1", "choose at least 0"),
        ("straightening", "--steps 0", "choose at least 1"),
        ("predictive_link", "--items 0", "choose at least 1"),
        ("predictive_link", "--seeds 0", "choose at least 1"),
    ],
)
def test_silly_options_are_refused(
    name: str, arguments: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [f"{name}.py", *arguments.split()])
    with pytest.raises(SystemExit) as caught:
        script(name).main()
    assert caught.value.code == 2
    assert told in capsys.readouterr().err.strip().splitlines()[-1]


def test_missing_tables_and_texts_are_typed(tmp_path: Path) -> None:
    for name, arguments, told in (
        ("associative_memory", ["--parts", "figures"], "no such table"),
        ("loss_plateau", ["--parts", "radius", "--text", str(tmp_path / "none.txt")], "none.txt"),
        ("loss_plateau", ["--parts", "radius", "--vectors", "2"], "of at least"),
    ):
        with pytest.raises(InvalidSource, match=told):
            script(name).main([*arguments, "--out", str(tmp_path)])
