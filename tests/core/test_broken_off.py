"""Runs and artifacts that break off at every single call to the system: nothing is lost, nothing is half, nothing stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
FAKES = Path(__file__).parent.parent / "fakes"


def lines(**job: Any) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(FAKES / "broken_runs.py"), json.dumps({"exchange": True, **job})],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_run_that_is_killed_while_it_finishes_leaves_the_old_one_or_the_new_one_at_every_moment(tmp_path: Path) -> None:
    said = lines(place=str(tmp_path), work="finish", how="kill")
    assert len(said) > 8 and any("exchange" in line["call"] for line in said)
    for line in said:
        assert line["found"] in ("old", "new") and line["settled"] == line["found"], line
        assert (line["finished"], line["left"]) == ("newest", []), line


@pytest.mark.parametrize("how", ["kill", "fail"])
def test_a_system_that_cannot_exchange_folders_gets_the_old_run_back(how: str, tmp_path: Path) -> None:
    said = lines(place=str(tmp_path), work="finish", how=how, exchange=False)
    assert any("replace" in line["call"] for line in said)
    for line in said:
        assert line["settled"] in ("old", "new"), line
        assert how == "kill" or line["found"] == line["settled"], line
        assert (line["finished"], line["left"]) == ("newest", []), line


def test_an_altered_artifact_that_is_made_again_is_never_taken_for_whole_before_it_is(tmp_path: Path) -> None:
    said = lines(place=str(tmp_path), work="make", how="kill")
    assert len(said) > 12
    for line in said:
        assert line["found"] in (None, "new"), line
        assert line["finished"] in ("new", "newest") and line["left"] == [], line
