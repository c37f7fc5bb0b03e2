"""Standard streams, folders and limits as a process may find them: the exit code and the message say what they are."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgebert.cli.main import WITHOUT_THREADS
from edgebert.cli.streams import Unfailing
from edgebert.core.library_caches import FOLDERS, HUB
from edgebert.errors import DataError, SourceError

EDGEBERT = f"{shlex.quote(sys.executable)} -m edgebert"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs: /dev/full, a device that is always full")


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a line of shell in a folder."""
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=False)


@FULL
@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2</dev/null", "2> >(true)"])
def test_standard_error_that_cannot_be_written_does_not_decide_how_a_command_ends(redirection: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("model: nowhere\n")
    assert shell(f"{EDGEBERT} validate recipe.yaml {redirection}", tmp_path).returncode == 2


@FULL
@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("schema >&-", 3, "Standard output is closed"),
        ("schema >/dev/full", 3, "Standard output cannot be written: the disk is full."),
        ("schema 1</dev/null", 3, "Standard output cannot be written: Bad file descriptor."),
        ("run nowhere <&-", 3, "Standard input is closed"),
        ("schema <&-", 0, ""),
    ],
)
def test_a_stream_that_is_closed_or_full_is_named(line: str, code: int, words: str, tmp_path: Path) -> None:
    done = shell(f"{EDGEBERT} {line}", tmp_path)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr and "fault in edgebert" not in done.stderr


@pytest.mark.parametrize("verb", ["validate recipe.yaml", "run nowhere text"])
def test_a_current_folder_that_was_deleted_is_named(verb: str, tmp_path: Path) -> None:
    done = shell(f'mkdir gone && cd gone && rmdir "$PWD" && {EDGEBERT} {verb}', tmp_path)
    assert (done.returncode, "The current folder was deleted." in done.stderr) == (3, True), done.stderr


def raising(error: BaseException, cause: BaseException | None = None) -> Callable[..., Any]:
    def run(*_: Any, **options: Any) -> None:
        raise error from cause

    return run


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("can't start new thread"), "may start no more threads"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "may start no more threads"),
        (OSError(errno.EMFILE, "Too many open files", "x"), "may open no more files"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "no memory left"),
        (MemoryError(), "no memory left"),
        (OSError(errno.EIO, "Input/output error", "/data/x"), "/data/x cannot be read or written: Input/output error"),
        (PermissionError(errno.EACCES, "Permission denied", str(Path("~/.cache").expanduser())), ".cache cannot be written"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "no folder for temporary files"),
    ],
    ids=["threads", "processes", "files", "memory", "python's memory", "disk", "home", "temporary files"],
)
@pytest.mark.parametrize("wrapped", [None, DataError, SourceError], ids=["alone", "in the data", "in the model"])
def test_a_limit_of_the_machine_is_named_and_is_never_a_fault_of_the_input(
    wrapped: type[DataError] | None, error: BaseException, words: str, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = raising(wrapped("eval.csv cannot be read as CSV."), error) if wrapped else raising(error)
    monkeypatch.setattr("edgebert.compress.recipe.json_schema", work)
    result = cli("schema")
    assert result.code == 3
    assert words in result.err and "CSV" not in result.err and "fault in edgebert" not in result.err


def test_threads_that_cannot_be_started_are_named_and_are_no_interrupt(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenBLAS sends the signal of Ctrl-C where it cannot start its threads."""
    monkeypatch.setattr("edgebert.compress.recipe.json_schema", raising(KeyboardInterrupt()))
    assert (cli("schema").code, cli("schema").err.count("Interrupted")) == (130, 1)
    monkeypatch.setattr(threading.Thread, "start", raising(RuntimeError("can't start new thread")))
    result = cli("schema")
    assert (result.code, "may start no more threads" in result.err, "Interrupted" in result.err) == (3, True, False)


UNKNOWN = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
READS = [f"--{kind}-caps=-all,+dac_read_search" for kind in ("inh", "ambient")] + ["--bounding-set=-all,+dac_read_search"]
"""An unknown user, who may read everything as those in a container may, and write nothing."""


def as_unknown(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of shell as a user id that nobody has, whose home is /."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become another user, with setpriv")
    kept = {name: value for name, value in os.environ.items() if name not in (*FOLDERS, *HUB, "XDG_CONFIG_HOME")}
    return subprocess.run(
        [*UNKNOWN, *READS, "bash", "-c", line],
        cwd=folder,
        env={**kept, "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_file_of_the_user_that_may_not_be_read_is_a_fault_of_the_input(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", "/data/eval.csv")
    monkeypatch.setattr("edgebert.compress.recipe.json_schema", raising(DataError("eval.csv cannot be read."), denied))
    assert cli("schema").code == 2


def test_a_limit_of_threads_is_named_before_libraries_are_imported(tmp_path: Path) -> None:
    done = as_unknown(f"ulimit -u 1; exec {EDGEBERT} compare a.json b.json", tmp_path)
    assert (done.returncode, "ulimit -u" in done.stderr) == (3, True), done.stderr


def test_a_verb_that_starts_no_threads_runs_where_few_are_allowed(tmp_path: Path) -> None:
    """On a machine of many cores with a small --pids-limit."""
    (tmp_path / "store" / "artifacts").mkdir(parents=True)
    done = as_unknown(f"ulimit -u 1; exec {EDGEBERT} store ls", tmp_path, EDGEBERT_HOME="store", OMP_NUM_THREADS="64")
    assert (done.returncode, done.stdout) == (0, "0 artifacts, 0.0 MB\n"), done.stderr


IMPORTED = """
import sys
from edgebert.cli.main import app
app(sys.argv[1:], prog_name="edgebert", standalone_mode=False)
print({"numpy", "torch", "scipy", "onnxruntime"} & set(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("verb", ["store ls --store store", "store gc --store store", "keys list"])
def test_verbs_without_threads_import_no_library_that_starts_them(verb: str, tmp_path: Path) -> None:
    (tmp_path / "store" / "artifacts").mkdir(parents=True)
    command = [sys.executable, "-c", IMPORTED, *verb.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert verb.split()[0] in WITHOUT_THREADS
    assert (done.returncode, done.stderr) == (0, "set()\n")


WHERE = """
import json, os, sys
from pathlib import Path
from edgebert.core.library_caches import FOLDERS, keep_in
keep_in(Path(sys.argv[1]))
print(json.dumps({name: os.environ.get(name) for name in (*FOLDERS, "HF_HOME")}))
"""


def test_caches_of_libraries_are_in_the_store_where_the_home_cannot_be_written(tmp_path: Path) -> None:
    line = shlex.join([sys.executable, "-c", WHERE, str(tmp_path / "store")])
    folders = json.loads(as_unknown(line, tmp_path, TORCH_HOME="/mine").stdout)
    assert folders.pop("TORCH_HOME") == "/mine"
    assert all(folder.startswith(f"{tmp_path}/store/caches/") for folder in folders.values()), folders
    home = json.loads(as_unknown(line, tmp_path, HOME=str(tmp_path), HF_HUB_CACHE="/models").stdout)
    assert home["HF_HOME"] is None and home["HF_MODULES_CACHE"]


def test_a_stream_that_fails_once_is_silent_afterwards(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        guarded = Unfailing(io.TextIOWrapper(io.FileIO(os.dup(file.fileno()), "w"), write_through=True))
        assert guarded.write("one\n") == 4
        os.close(guarded.fileno())
        assert guarded.write("two\n") == 4
        guarded.flush()
    assert (tmp_path / "log").read_text() == "one\n"


def test_a_broken_pipe_that_is_not_standard_output_is_no_quiet_end(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgebert.compress.recipe.json_schema", raising(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    monkeypatch.setattr("edgebert.cli.main.reader_left", lambda: False)
    result = cli("schema")
    assert result.code == 3 and "BrokenPipeError: [Errno 32] Broken pipe" in result.err
    monkeypatch.setattr("edgebert.compress.recipe.json_schema", raising(SystemExit(1)))
    assert cli("schema").code == 3, "a library that exits is no failed gate"
