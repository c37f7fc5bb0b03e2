"""The run folder is replaced as a whole, and nothing that no run wrote is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgebert.compress.run_folder import output_folder, sweep
from edgebert.errors import InputError

RECORD = json.dumps({"recipe": {}, "steps": [], "verdict": "PASSED"})


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write_run(folder: Path, mark: str) -> None:
    with output_folder(folder) as draft:
        (draft / "run.json").write_text(RECORD)
        (draft / "report.json").write_text(mark)


def test_output_folder_replaces_an_older_run(tmp_path: Path) -> None:
    for mark in ("first", "second"):
        write_run(tmp_path / "run", mark)
    assert (tmp_path / "run" / "report.json").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_output_folder_keeps_the_older_run_when_the_new_one_fails(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "first")
    with pytest.raises(ZeroDivisionError), output_folder(tmp_path / "run"):
        _ = 1 / 0
    assert (tmp_path / "run" / "report.json").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    "files",
    [{"run.json": "{}"}, {"run.json": "not JSON"}, {"run.json": RECORD, "notes.txt": "mine"}, {"thesis.txt": "mine"}],
    ids=["another program's run.json", "no JSON", "a file of the user's in it", "no run at all"],
)
def test_output_folder_leaves_what_no_run_wrote(files: dict[str, str], tmp_path: Path) -> None:
    target = tmp_path / "run"
    target.mkdir()
    for name, text in files.items():
        (target / name).write_text(text)
    with pytest.raises(InputError, match="left alone"), output_folder(target):
        pass
    assert {path.name: path.read_text() for path in target.iterdir()} == files


def test_sweep_removes_drafts_of_dead_processes_alone(tmp_path: Path) -> None:
    dead = dead_process()
    theirs = tmp_path / f".run-{os.getpid()}-abc"
    other_target = tmp_path / f".run-{dead}-{os.getpid()}-abc"  # a draft of the target run-<number>
    for folder in (theirs, other_target, tmp_path / f".run-{dead}-abc"):
        folder.mkdir()
    sweep(tmp_path / "run")
    assert sorted(tmp_path.iterdir()) == sorted([theirs, other_target])


def test_sweep_brings_back_what_a_killed_run_had_moved_aside(tmp_path: Path) -> None:
    aside = tmp_path / f".run-{dead_process()}-abc" / "old"
    aside.mkdir(parents=True)
    (aside / "run.json").write_text(RECORD)
    sweep(tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_text() == RECORD
