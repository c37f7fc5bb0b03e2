"""Finishes runs and artifacts again and again, and breaks off at another call to the system each time: `broken_runs.py JOB`.

The job is JSON: `place` (a new folder), `work` (finish: a run takes the place of an older one; make: an artifact that was
altered is made again), `how` (kill: the process is killed before the call; fail: the call raises a full disk), `exchange`
(whether the system can exchange two folders). One line of JSON for each call:

    call       number and name of the call
    found      mark of what is there right after: of the run folder, or of the artifact if its hashes are right
    settled    the same after the next run has begun
    finished   the same after a run has ended
    left       names of what is left over then
"""

from __future__ import annotations

import itertools
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broken_off import DONE, NOT_REACHED, Breaker, breaking_off

from edgebert.compress import run_folder
from edgebert.compress.run_folder import is_run, output_folder, sweep
from edgebert.core.store import ArtifactStore, Draft, MadeBy, hash_json

RECORD = json.dumps({"recipe": {}, "steps": [], "verdict": "PASSED"})
KEY = hash_json("a key")
MADE_BY = MadeBy(name="test", version=1, parameters={}, packages={})


def finish(place: Path, mark: str) -> None:
    with output_folder(place / "run") as draft:
        (draft / "run.json").write_text(RECORD)
        (draft / "report.json").write_text(mark)


def found_run(place: Path) -> str | None:
    return (place / "run" / "report.json").read_text() if is_run(place / "run") else None


def make(place: Path, mark: str) -> None:
    def write(draft: Draft) -> dict[str, Any]:
        (draft.out / "a.txt").write_text(mark)
        return {}

    store = ArtifactStore(place)
    with store.lease(place / "out") as hand_over:
        store.get_or_make(KEY, format="data", parent=None, made_by=MADE_BY, make=write)
        hand_over(None)


def found_artifact(place: Path) -> str | None:
    found = ArtifactStore(place).get(KEY)
    return (found.path / "a.txt").read_text() if found else None


def begin(place: Path, work: str) -> None:
    sweep(place / "run") if work == "finish" else ArtifactStore(place).collect()


def prepared(place: Path, work: str) -> None:
    """An older run, or an artifact that was altered."""
    place.mkdir(parents=True)
    if work == "finish":
        finish(place, "old")
        return
    ArtifactStore(place).prepare()
    (place / "out").mkdir()
    (place / "out" / "run.json").write_text(RECORD)  # keeps the artifact when leases of killed runs are cleared
    make(place, "old")
    (place / "artifacts" / KEY / "a.txt").write_text("bad")


def left_over(place: Path, work: str) -> list[str]:
    if work == "finish":
        return [path.name for path in place.iterdir() if path.name != "run"]
    return [path.name for folder in ("tmp", "work", "artifacts") for path in (place / folder).iterdir() if path.name != KEY]


def broken(place: Path, job: dict[str, Any], act: Callable[[Path, str], None], at: int) -> tuple[int, str]:
    """Does the work until it breaks off at a call. Returns the exit code and the call."""

    def exchanging(breaker: Breaker) -> None:
        swap = run_folder.exchange
        run_folder.exchange = breaker._counted("exchange", swap if job["exchange"] else lambda *_: False)  # type: ignore[assignment]
        act(place, "new")

    return breaking_off(at, job["how"], exchanging)


def main() -> None:
    """Does the job and writes its lines."""
    job = json.loads(sys.argv[1])
    act, found = (finish, found_run) if job["work"] == "finish" else (make, found_artifact)
    for at in itertools.count(1):
        place = Path(job["place"]) / str(at)
        prepared(place, job["work"])
        code, call = broken(place, job, act, at)
        if code == NOT_REACHED:
            break
        assert code == (-signal.SIGKILL if job["how"] == "kill" else DONE), code
        said: dict[str, Any] = {"call": f"{at} {call}", "found": found(place)}
        begin(place, job["work"])
        said["settled"] = found(place)
        act(place, "newest")
        begin(place, job["work"])
        said |= {"finished": found(place), "left": left_over(place, job["work"])}
        sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
