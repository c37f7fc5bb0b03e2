"""The store: artifacts are whole or absent, made once, found by their key, verified by their bytes, and collected by lease."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgebert.compress.recipe_file import load_recipe
from edgebert.compress.run import compress
from edgebert.core.locks import is_held
from edgebert.core.progress import ProgressStep, Silent
from edgebert.core.store import MANIFEST, Artifact, ArtifactStore, Draft, MadeBy, content_hash, hash_folder, hash_json
from edgebert.errors import EnvironmentFault, StoreError

KEY = hash_json("a key")
MADE_BY = MadeBy(name="test", version=1, parameters={}, packages={})


def write_two_files(draft: Draft) -> Mapping[str, Any]:
    (draft.out / "inner").mkdir()
    (draft.out / "a.txt").write_text("first")
    (draft.out / "inner" / "b.txt").write_text("second")
    return {"files": 2}


def put(
    store: ArtifactStore,
    key: str = KEY,
    make: Callable[[Draft], Mapping[str, Any]] = write_two_files,
    parent: str | None = None,
) -> Artifact:
    return store.get_or_make(key, format="data", parent=parent, made_by=MADE_BY, make=make)


def leftovers(store: ArtifactStore) -> list[Path]:
    return [*(store.root / "tmp").iterdir(), *(store.root / "work").iterdir()]


def test_get_or_make_returns_an_artifact_whose_manifest_describes_its_files(store: ArtifactStore) -> None:
    made = put(store)
    assert sorted(made.manifest.files) == ["a.txt", "inner/b.txt"]
    assert made.manifest.files == hash_folder(made.path)
    assert made.sha256 == content_hash(made.manifest.files)
    assert made.size == len("first") + len("second")
    assert made.facts == {"files": 2}
    found = store.get(KEY)
    assert found is not None and found.manifest == made.manifest
    assert leftovers(store) == []


def test_get_or_make_does_not_call_make_when_the_artifact_is_there(store: ArtifactStore) -> None:
    put(store)
    put(store, make=lambda draft: pytest.fail("made again"))


def test_get_returns_none_when_the_key_is_unknown(store: ArtifactStore) -> None:
    assert store.get(KEY) is None


def test_content_hash_differs_when_a_file_is_renamed(store: ArtifactStore) -> None:
    def renamed(draft: Draft) -> Mapping[str, Any]:
        facts = write_two_files(draft)
        (draft.out / "a.txt").rename(draft.out / "c.txt")
        return facts

    assert put(store).sha256 != put(store, hash_json("another"), make=renamed).sha256


def test_get_or_make_leaves_nothing_when_make_raises(store: ArtifactStore) -> None:
    def broken(draft: Draft) -> Mapping[str, Any]:
        write_two_files(draft)
        raise KeyError("in the middle")

    with pytest.raises(KeyError, match="in the middle"):
        put(store, make=broken)
    assert store.get(KEY) is None
    assert list((store.root / "artifacts").iterdir()) == []
    assert leftovers(store) == []


def test_get_or_make_keeps_the_checkpoint_for_the_next_attempt_when_make_raises(store: ArtifactStore) -> None:
    def stops(draft: Draft) -> Mapping[str, Any]:
        (draft.work / "checkpoint").write_text("step 7")
        raise KeyboardInterrupt

    seen = []

    def goes_on(draft: Draft) -> Mapping[str, Any]:
        seen.append((draft.work / "checkpoint").read_text())
        return {}

    with pytest.raises(KeyboardInterrupt):
        put(store, make=stops)
    put(store, make=goes_on)
    assert seen == ["step 7"]
    assert leftovers(store) == []


def test_no_artifact_is_visible_while_its_files_are_being_written(store: ArtifactStore) -> None:
    seen = []

    def looks(draft: Draft) -> Mapping[str, Any]:
        facts = write_two_files(draft)
        seen.append((store.get(KEY), store.artifacts()))
        return facts

    put(store, make=looks)
    assert seen == [(None, [])]


def test_get_or_make_makes_it_again_when_a_folder_of_that_key_has_no_manifest(store: ArtifactStore) -> None:
    made = put(store)
    (made.path / MANIFEST).unlink()
    assert store.get(KEY) is None
    put(store).verify()


def make_slowly(root: Path, log: Path, start: Any) -> None:
    """Runs in another process: waits for the others, then asks for the same key."""

    def make(draft: Draft) -> Mapping[str, Any]:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.5)
        return write_two_files(draft)

    start.wait()
    put(ArtifactStore(root), make=make).verify()


def test_get_or_make_makes_it_once_when_two_processes_ask_at_the_same_moment(store: ArtifactStore, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, log = context.Barrier(2), tmp_path / "log"
    processes = [context.Process(target=make_slowly, args=(store.root, log, start)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(log.read_text().split()) == 1
    assert len(store.artifacts()) == 1


def flip_a_byte(artifact: Path) -> None:
    data = bytearray((artifact / "a.txt").read_bytes())
    data[2] ^= 1
    (artifact / "a.txt").write_bytes(data)


def remove_a_file(artifact: Path) -> None:
    (artifact / "inner" / "b.txt").unlink()


def add_a_file(artifact: Path) -> None:
    (artifact / "c.txt").write_text("third")


@pytest.mark.parametrize(("damage", "name"), [(flip_a_byte, "a.txt"), (remove_a_file, "b.txt"), (add_a_file, "c.txt")])
def test_verify_names_the_file_when_it_is_altered_missing_or_extra(
    store: ArtifactStore, damage: Callable[[Path], None], name: str
) -> None:
    made = put(store)
    made.verify()
    assert store.verify() == []
    damage(made.path)
    with pytest.raises(StoreError, match=name):
        made.verify()
    assert [name in fault for fault in store.verify()] == [True]


def test_remove_altered_drops_what_fails_its_verification_and_nothing_else(store: ArtifactStore) -> None:
    bad, unreadable, good = (put(store, hash_json(name)) for name in ("bad", "unreadable", "good"))
    flip_a_byte(bad.path)
    (unreadable.path / MANIFEST).write_text("{")
    assert len(store.verify()) == 2
    assert store.remove_altered() == 2
    assert [artifact.key for artifact in store.artifacts()] == [good.key]


def test_lineage_lists_the_artifact_and_its_parents_nearest_first(store: ArtifactStore) -> None:
    grandparent = put(store, hash_json(1))
    parent = put(store, hash_json(2), parent=grandparent.key)
    child = put(store, hash_json(3), parent=parent.key)
    assert [artifact.key for artifact in store.lineage(child)] == [child.key, parent.key, grandparent.key]


def finish(out: Path) -> None:
    out.mkdir(parents=True)
    (out / "run.json").write_text("{}")


def test_collect_keeps_what_a_finished_run_was_made_from_and_drops_the_rest(store: ArtifactStore, tmp_path: Path) -> None:
    loose = put(store, hash_json("loose"))
    found = put(store, hash_json("found"))
    with store.lease(tmp_path / "out") as hand_over:
        made = put(store, hash_json("made"))
        store.get(found.key)
        hand_over(None)
    finish(tmp_path / "out")
    assert store.collect() == (1, loose.size)
    assert {artifact.key for artifact in store.artifacts()} == {made.key, found.key}


def test_collect_drops_everything_when_asked(store: ArtifactStore, tmp_path: Path) -> None:
    with store.lease(tmp_path / "out") as hand_over:
        put(store)
        hand_over(None)
    finish(tmp_path / "out")
    assert store.collect(everything=True)[0] == 1
    assert store.artifacts() == []


def test_collect_drops_the_artifacts_of_a_run_when_its_folder_is_gone(store: ArtifactStore, tmp_path: Path) -> None:
    with store.lease(tmp_path / "out") as hand_over:
        put(store)
        hand_over(None)
    assert store.collect()[0] == 1


def test_collect_keeps_the_artifacts_of_a_run_that_is_at_work(store: ArtifactStore, tmp_path: Path) -> None:
    with store.lease(tmp_path / "out"):
        put(store)
        assert store.collect()[0] == 0
        assert store.get(KEY) is not None


def test_collect_drops_the_artifacts_of_a_run_that_was_killed(store: ArtifactStore, tmp_path: Path) -> None:
    script = f"""
import os, pathlib, test_store
from edgebert.core.store import ArtifactStore
store = ArtifactStore(pathlib.Path({str(store.root)!r}))
with store.lease(pathlib.Path({str(tmp_path / "out")!r})):
    test_store.put(store)
    os._exit(9)
"""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 9
    assert len(store.artifacts()) == 1
    assert store.collect()[0] == 1


def test_collect_removes_what_a_killed_run_left(store: ArtifactStore) -> None:
    (store.root / "tmp" / f"{KEY[:16]}-1-abc").mkdir()
    (store.root / "tmp" / f"{KEY[:16]}-1-abc" / "half.bin").write_bytes(b"x" * 100)
    (store.root / "work" / KEY).mkdir()
    (store.root / "work" / KEY / "checkpoint").write_bytes(b"x" * 10)
    assert store.collect() == (0, 110)
    assert leftovers(store) == []


def test_collect_deletes_nothing_while_runs_wait_for_it(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    really, held = shutil.rmtree, []

    def deletes(path: Path, *words: Any, **named: Any) -> None:
        held.append(is_held(store.root / "locks" / "leases"))
        really(path, *words, **named)

    made = put(store)
    monkeypatch.setattr(shutil, "rmtree", deletes)
    assert store.collect() == (1, made.size)
    assert held == [False]
    assert leftovers(store) == []


def test_verify_and_gc_pass_over_what_a_collection_removes_meanwhile(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, reached = Artifact.verify, []

    def removed(artifact: Artifact) -> None:
        reached.append(artifact.key)
        shutil.rmtree(artifact.path)
        really(artifact)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(artifact.path / "a.txt"))

    monkeypatch.setattr(Artifact, "verify", removed)
    put(store, hash_json(1)), put(store, hash_json(2))
    assert store.verify() == [] and len(reached) == 2
    put(ArtifactStore(store.root), hash_json(3))
    assert store.remove_altered() == 0 and len(reached) == 3


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_what_cannot_be_read_is_named_and_not_dropped_as_altered(
    number: int, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    put(store)
    for part in ("hash_file", "read_regular"):
        with monkeypatch.context() as unreadable:
            unreadable.setattr(f"edgebert.core.artifact.{part}", refuse)
            [line] = store.verify()
            assert "cannot be read" in line
            with pytest.raises(StoreError, match="cannot be read"):
                store.remove_altered()
    assert store.verify() == [] and len(store.artifacts()) == 1


def test_verify_names_a_limit_of_the_machine(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    put(store)
    monkeypatch.setattr("edgebert.core.artifact.hash_file", refuse)
    with pytest.raises(EnvironmentFault, match="may open no more files"):
        store.verify()


def test_collect_does_not_touch_a_draft_that_is_being_written(store: ArtifactStore) -> None:
    def collects(draft: Draft) -> Mapping[str, Any]:
        facts = write_two_files(draft)
        (draft.work / "checkpoint").write_text("kept")
        ArtifactStore(store.root).collect(everything=True)
        assert (draft.work / "checkpoint").read_text() == "kept"
        return facts

    put(store, make=collects).verify()


class Collecting(Silent):
    """Collects the store at every step of a run, as another process may."""

    def __init__(self, store: ArtifactStore) -> None:
        self.titles: list[str] = []
        self._store = store

    @contextlib.contextmanager
    def step(self, title: str, total: float | None = None) -> Any:
        self.titles.append(title)
        self._store.collect()
        with super().step(title, total) as step:
            inner: ProgressStep = step
            yield inner


@pytest.mark.slow
def test_compress_finishes_when_the_store_is_collected_at_each_of_its_steps(
    store: ArtifactStore, recipe: Path, tmp_path: Path
) -> None:
    progress = Collecting(ArtifactStore(store.root))
    compress(load_recipe(str(recipe)), store=store, out=tmp_path / "out", progress=progress)
    assert "measure latency" in progress.titles
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert all(store.get(step["key"]) for step in record["steps"])
    assert store.collect()[0] == 0
    assert store.verify() == []
