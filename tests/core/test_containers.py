"""Containers that share a store or an output folder: in each, edgebert is process 1, and no number says who is at work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from containers import at_work, in_container, kill, need_containers
from test_store import finish, put

from edgebert.core.store import ArtifactStore, hash_json

pytestmark = pytest.mark.usefixtures("containers")


@pytest.fixture(scope="module")
def containers() -> None:
    need_containers()


LEASES = """
import os, pathlib, sys
from edgebert.core.store import ArtifactStore, MadeBy, hash_json
assert os.getpid() == 1
root, out, name = sys.argv[1:]
store = ArtifactStore(pathlib.Path(root))
with store.lease(pathlib.Path(out)):
    made_by = MadeBy(name="t", version=1, parameters={}, packages={})
    make = lambda draft: {"size": (draft.out / "a.txt").write_text(name)}
    store.get_or_make(hash_json(name), format="data", parent=None, made_by=made_by, make=make)
    print("ready", flush=True)
    sys.stdin.read()
"""
COLLECTS = """
import pathlib, sys
from edgebert.core.store import ArtifactStore
print(ArtifactStore(pathlib.Path(sys.argv[1])).collect()[0])
"""


def test_gc_of_another_container_keeps_what_runs_at_work_use_and_drops_the_rest_when_they_are_killed(
    store: ArtifactStore, tmp_path: Path
) -> None:
    """Two runs into one folder, each of them process 1."""
    out = tmp_path / "out"
    with at_work(LEASES, store.root, out, "one") as one, at_work(LEASES, store.root, out, "two"):
        assert in_container(COLLECTS, store.root) == "0\n"
        assert store.collect()[0] == 0
        kill(one)
        assert in_container(COLLECTS, store.root) == "1\n"
        assert store.get(hash_json("two")) is not None
    assert store.collect()[0] == 1
    assert list((store.root / "leases").iterdir()) == []


DRAFTS = """
import os, pathlib, sys
from edgebert.compress.run_folder import output_folder
assert os.getpid() == 1
with output_folder(pathlib.Path(sys.argv[1])) as draft:
    (draft / "report.json").write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""
SWEEPS = """
import pathlib, sys
from edgebert.compress.run_folder import sweep
sweep(pathlib.Path(sys.argv[1]))
"""


def test_sweep_of_another_container_leaves_a_draft_until_its_run_is_killed(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with at_work(DRAFTS, target):
        in_container(SWEEPS, target)
        [draft] = tmp_path.iterdir()
        assert (draft / "new" / "report.json").read_text() == "half"
    in_container(SWEEPS, target)
    assert list(tmp_path.iterdir()) == []


MAKES = """
import pathlib, sys
from edgebert.core.store import ArtifactStore, MadeBy, hash_json
def make(draft):
    (draft.out / "half.bin").write_bytes(b"half")
    (draft.work / "checkpoint").write_bytes(b"step 7")
    print("ready", flush=True)
    sys.stdin.read()
ArtifactStore(pathlib.Path(sys.argv[1])).get_or_make(hash_json("made"), format="data", parent=None,
    made_by=MadeBy(name="t", version=1, parameters={}, packages={}), make=make)
"""


def test_gc_of_another_container_leaves_an_artifact_that_is_being_made(store: ArtifactStore) -> None:
    with at_work(MAKES, store.root):
        in_container(COLLECTS, store.root)
        assert list((store.root / "tmp").glob("*/half.bin")) and list((store.root / "work").glob("*/checkpoint"))
    in_container(COLLECTS, store.root)
    assert not list((store.root / "tmp").iterdir()) and not list((store.root / "work").iterdir())


def former_lease(store: ArtifactStore, out: Path, pid: int | None, *, days: float = 0) -> str:
    """A lease as version 0.1 wrote it, last written some days ago, of an artifact that is there. Returns its key."""
    key = put(store, hash_json([str(out), pid, days])).key
    name = hash_json(str(out))[:32] + ("" if pid is None else f"-{pid}")
    file = store.root / "leases" / f"{name}.json"
    file.write_text(json.dumps({"out": str(out), "pid": pid, "keys": [key]}))
    os.utime(file, (file.stat().st_mtime - days * 86_400,) * 2)
    return key


@pytest.mark.parametrize(
    ("lease", "kept"),
    [
        (lambda store, folder: former_lease(store, folder / "out", 1), True),
        (lambda store, folder: former_lease(store, folder / "out", 1, days=8), False),
        (lambda store, folder: former_lease(store, folder / "finished", None, days=99), True),
        (lambda store, folder: former_lease(store, folder / "removed", None), False),
    ],
    ids=["a run that may be at work", "one of last week", "a finished run", "a run whose folder is gone"],
)
def test_leases_of_version_0_1_count_by_their_age_because_they_name_a_process(
    lease: Callable[[ArtifactStore, Path], str], kept: bool, store: ArtifactStore, tmp_path: Path
) -> None:
    finish(tmp_path / "finished")
    key = lease(store, tmp_path)
    assert store.collect()[0] == int(not kept)
    assert (store.find(key) is not None) == kept
    assert bool(list((store.root / "leases").iterdir())) == kept


def finished_on(host: str, store: ArtifactStore, out: Path, key: str, *, days: int, replaced: Path | None = None) -> None:
    """A run that used an artifact and finished on a host some days ago."""
    with pytest.MonkeyPatch.context() as there:
        there.setattr("platform.node", lambda: host)
        before = set((store.root / "leases").glob("*.json"))
        with store.lease(out) as hand_over:
            put(store, key)
            hand_over(replaced)
    for file in {*(store.root / "leases").glob("*.json")} - before:
        os.utime(file, (file.stat().st_mtime - days * 86_400,) * 2)


@pytest.mark.parametrize(
    ("days", "folder", "kept"), [(1, None, True), (31, None, False), (31, "run.json", True), (1, "other.txt", False)]
)
def test_lease_of_a_run_that_finished_on_another_host_counts_by_its_age_only_where_its_folder_is_not_seen(
    days: int, folder: str | None, kept: bool, store: ArtifactStore, tmp_path: Path
) -> None:
    finished_on("elsewhere", store, tmp_path / "out", hash_json("a key"), days=days)
    if folder:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / folder).write_text("{}")
    store.collect()
    assert {artifact.key for artifact in store.artifacts()} == ({hash_json("a key")} if kept else set())
    assert store.collect(everything=True)[0] == int(kept)


def test_a_run_that_replaces_that_of_another_host_ends_its_lease_and_no_other_of_the_same_path(
    store: ArtifactStore, tmp_path: Path
) -> None:
    """Each start of a container has another host name, and two containers may have different folders at one path."""
    out, former = tmp_path / "out", tmp_path / "former"
    keys = {name: hash_json(name) for name in ("replaced", "of another folder", "new")}
    finished_on("first start", store, out, keys["replaced"], days=1)
    finished_on("other container", store, out, keys["of another folder"], days=1)
    former.mkdir()
    (former / "run.json").write_text(json.dumps({"steps": [{"key": keys["replaced"]}]}))
    finished_on("second start", store, out, keys["new"], days=1, replaced=former)
    store.collect()
    assert {artifact.key for artifact in store.artifacts()} == {keys["of another folder"], keys["new"]}
