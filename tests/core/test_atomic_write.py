"""Files that are written as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgebert.core.files import write_whole
from edgebert.errors import InputError


def test_a_file_is_written_with_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "new" / "a.txt", "one\n")
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"one\n"
    assert (tmp_path / "new" / "a.txt").stat().st_mode & 0o777 == 0o640
    write_whole(tmp_path / "new" / "a.txt", "two\n")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert (tmp_path / "new" / "a.txt").read_text() == "two\n"


def test_a_link_stays_one_and_a_pipe_is_written_into(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    write_whole(Path("/dev/null"), "gone")
    assert not Path("/dev/null").is_file()


def test_what_cannot_be_written_is_one_sentence_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="cannot be written: Is a directory"):
        write_whole(tmp_path, "text")
    (tmp_path / "file").write_text("old")
    with pytest.raises(InputError, match="cannot be written") as found:
        write_whole(tmp_path / "file" / "below", "text", option="--junit")
    assert found.value.hint == "Name another file with --junit."

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(InputError, match="No space left on device"):
        write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["file"]
