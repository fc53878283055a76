"""Files are written as a whole or not at all."""

from pathlib import Path

import pytest

from semcom.files import replacing, write_whole


def test_texts_and_bytes_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, b"before")
    write_whole(path, "né\n")
    assert path.read_bytes() == b"n\xc3\xa9\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail() -> None:
        with replacing(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]


def test_errors_name_the_file_and_not_its_part(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    absent, taken = (
        (tmp_path / "absent" / "a.txt", FileNotFoundError),
        (tmp_path / "taken", IsADirectoryError),
    )
    for path, error in (absent, taken):
        with pytest.raises(error) as caught:
            write_whole(path, "x")
        assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Processes of one training write the same weights at the same time."""
    path = tmp_path / "a.txt"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("letter", ["a", "ü", "字", "🙂"])
def test_the_longest_names_can_be_written(tmp_path: Path, letter: str) -> None:
    path = tmp_path / (letter * (255 // len(letter.encode())))
    write_whole(path, "x")
    assert path.read_text() == "x"
