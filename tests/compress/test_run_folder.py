"""The run folder is replaced as a whole, and nothing that no run wrote is touched."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgebert.compress.run_folder import is_run, output_folder, sweep
from edgebert.core.exchange import exchange
from edgebert.core.locks import locked
from edgebert.errors import InputError

RECORD = json.dumps({"recipe": {}, "steps": [], "verdict": "PASSED"})


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


def aged(folder: Path) -> Path:
    os.utime(folder, (0, 0))
    return folder


def test_sweep_removes_drafts_that_nobody_holds(tmp_path: Path) -> None:
    theirs, dead = tmp_path / f".run.{'a' * 16}.draft", tmp_path / f".run.{'b' * 16}.draft"
    other_target = tmp_path / f".run.{'c' * 16}.draft.{'c' * 16}.draft"
    for folder in (theirs, dead, other_target):
        (folder / "new").mkdir(parents=True)
    with locked(theirs / "lock"):
        sweep(tmp_path / "run")
        assert sorted(tmp_path.iterdir()) == sorted([theirs, other_target])


def test_sweep_removes_drafts_of_former_versions_a_week_later(tmp_path: Path) -> None:
    """They name a process, which says nothing in another container."""
    recent, old = tmp_path / f".run-{os.getpid()}-abc", tmp_path / ".run-1-abc"
    other_target = tmp_path / ".run-1-2-abc"  # a draft of the target run-1
    for folder in (recent, old, other_target):
        folder.mkdir()
    aged(old), aged(other_target)
    sweep(tmp_path / "run")
    assert sorted(tmp_path.iterdir()) == sorted([recent, other_target])


@pytest.mark.parametrize("name", [f".run.{'a' * 16}.draft", ".run-1-abc"])
def test_sweep_brings_back_what_a_killed_run_had_moved_aside(name: str, tmp_path: Path) -> None:
    aside = tmp_path / name / "old"
    aside.mkdir(parents=True)
    (aside / "run.json").write_text(RECORD)
    sweep(tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_text() == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_output_folder_follows_a_link_to_another_folder(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk" / "run")  # leads nowhere yet
    for mark in ("first", "second"):
        write_run(tmp_path / "run", mark)
        assert (tmp_path / "run").is_symlink()
        assert (tmp_path / "disk" / "run" / "report.json").read_text() == mark
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["run"]


def test_output_folder_leaves_what_the_user_put_there_during_the_run(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "first")
    with pytest.raises(InputError, match="left alone"), output_folder(tmp_path / "run") as draft:
        (draft / "run.json").write_text(RECORD)
        (tmp_path / "run" / "notes.txt").write_text("mine")
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("place", [".", "..", "/"])
def test_output_folder_refuses_the_current_folder_and_those_around_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    with pytest.raises(InputError, match="is the current folder, or holds it"), output_folder(Path(place)):
        pytest.fail("work began")


def test_output_folder_is_replaced_by_one_run_at_a_time(tmp_path: Path) -> None:
    """Eight writers, and a reader that always finds a whole run."""
    write_run(tmp_path / "run", "first")
    done, torn = threading.Event(), []

    def reads() -> None:
        while not done.is_set():
            if not (tmp_path / "run" / "report.json").is_file():
                torn.append("no report")

    reader = threading.Thread(target=reads)
    reader.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: write_run(tmp_path / "run", str(number)), range(80)))
    finally:
        done.set()
        reader.join()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert is_run(tmp_path / "run")
    assert torn == [] or not exchanges(tmp_path)


def test_the_run_in_the_folder_is_the_one_that_was_handed_over_last(tmp_path: Path) -> None:
    """Two runs into one folder: the first run's call after its exchange happens before the second run exchanges."""
    told: list[tuple[str, str]] = []

    def write(mark: str) -> None:
        def then(former: Path | None) -> None:
            was = (former / "report.json").read_text() if former else "nothing"
            time.sleep(0.001)  # another run would come between
            assert (tmp_path / "run" / "report.json").read_text() == mark
            told.append((was, mark))

        with output_folder(tmp_path / "run", then) as draft:
            (draft / "run.json").write_text(RECORD)
            (draft / "report.json").write_text(mark)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, map(str, range(20))))
    assert [was for was, _ in told] == ["nothing", *(mark for _, mark in told[:-1])]
    assert (tmp_path / "run" / "report.json").read_text() == told[-1][1]


def test_a_current_folder_that_is_deleted_during_the_run_does_not_discard_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with output_folder(tmp_path / "run") as draft:
        (draft / "run.json").write_text(RECORD)
        (tmp_path / "here").rmdir()
    assert is_run(tmp_path / "run")


@pytest.mark.parametrize(
    "number", [errno.ENOSYS, errno.EINVAL, errno.EPERM], ids=["old kernel", "file system", "seccomp profile of a container"]
)
def test_a_system_that_cannot_exchange_gets_two_renames(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def renameat2(self, *words: object) -> int:
            ctypes.set_errno(number)
            return -1

    write_run(tmp_path / "run", "first")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda *words, **named: Library())
    write_run(tmp_path / "run", "second")
    assert (tmp_path / "run" / "report.json").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def exchanges(folder: Path) -> bool:
    """Whether the system can exchange two folders there."""
    (folder / "a").mkdir(), (folder / "b").mkdir()
    return exchange(folder / "a", folder / "b")


REFUSED = """
import json, os, pathlib, subprocess, sys
from edgebert.compress.run_folder import output_folder
from edgebert.core.store import ArtifactStore
from edgebert.errors import EdgebertError

top = pathlib.Path(sys.argv[1])

def mount(*words):
    subprocess.run(["mount", *words], check=True)

def asked(work):
    try:
        work()
    except EdgebertError as error:
        return [error.exit_code, str(error)]
    return [0, "work began"]

def out(path):
    with output_folder(path):
        pass

def store(path):
    ArtifactStore(path).prepare()

for name in ("disk", "bound", "real", "readonly", "store", "taken"):
    (top / name).mkdir()
mount("-t", "tmpfs", "tmpfs", str(top / "disk"))
mount("--bind", str(top / "real"), str(top / "bound"))
mount("-t", "tmpfs", "-o", "ro", "tmpfs", str(top / "readonly"))
(top / "link").symlink_to(top / "disk")
(top / "inner").symlink_to(top / "disk" / "inner")
(top / "store" / "artifacts").symlink_to(top / "disk")
(top / "file").write_text("mine")
answers = {
    "mount point": asked(lambda: out(top / "disk")),
    "bound folder of the same disk": asked(lambda: out(top / "bound")),
    "link to a mount point": asked(lambda: out(top / "link")),
    "link into another disk": asked(lambda: out(top / "inner")),
    "read-only": asked(lambda: out(top / "readonly" / "run")),
    "below a file": asked(lambda: out(top / "file" / "run")),
    "a file": asked(lambda: out(top / "file")),
    "store over two disks": asked(lambda: store(top / "store")),
    "leftovers": [sorted(path.name for path in top.iterdir()), sorted(path.name for path in (top / "disk").iterdir())],
}
os.setgroups([])
os.seteuid(12345)
answers["no rights"] = asked(lambda: out(top / "taken" / "run"))
print(json.dumps(answers))
"""


def test_output_folder_that_cannot_be_replaced_is_found_before_any_work(tmp_path: Path) -> None:
    command = ["unshare", "--mount", sys.executable, "-c", REFUSED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("unshare") else None
    if done is None or ("unshare" in done.stderr and "failed" in done.stderr):
        pytest.skip("this user cannot mount file systems")
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for name in ("mount point", "bound folder of the same disk", "link to a mount point"):
        code, message = answers[name]
        assert (code, "is a mount point" in message, "Name a folder inside of it" in message) == (2, True, True), (
            name,
            message,
        )
    assert answers["link into another disk"] == [0, "work began"]
    for name, code, words in (
        ("read-only", 3, "cannot be written: Read-only file system"),
        ("below a file", 3, "a file stands in its way"),
        ("a file", 2, "was not written by a run"),
        ("store over two disks", 3, "Its parts must be on one file system"),
        ("no rights", 3, "cannot be written: Permission denied"),
    ):
        assert answers[name][0] == code and words in answers[name][1], (name, answers[name])
    names = ["bound", "disk", "file", "inner", "link", "readonly", "real", "store", "taken"]
    assert answers["leftovers"] == [names, ["inner"]]
