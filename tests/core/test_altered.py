"""The store is not believed: what a run uses is hashed once, and made again where it differs."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FINISHED
from test_store import KEY, add_a_file, flip_a_byte, put, remove_a_file

from edgebert.core import artifact as module
from edgebert.core.artifact import MANIFEST, seal_of
from edgebert.core.store import ArtifactStore, hash_json
from edgebert.errors import StoreError


def changed_fact(artifact: Path) -> None:
    manifest = json.loads((artifact / MANIFEST).read_text())
    (artifact / MANIFEST).write_text(json.dumps({**manifest, "facts": {"files": 3}}, indent=1))


def cut_manifest(artifact: Path) -> None:
    (artifact / MANIFEST).write_text((artifact / MANIFEST).read_text()[:-20])


def no_text(artifact: Path) -> None:
    (artifact / MANIFEST).write_bytes(b"\xff" + (artifact / MANIFEST).read_bytes()[1:])


def file_and_its_hash(artifact: Path) -> None:
    """Both changed, as nobody does by accident; the seal tells."""
    old = hashlib.sha256((artifact / "a.txt").read_bytes()).hexdigest()
    flip_a_byte(artifact)
    new = hashlib.sha256((artifact / "a.txt").read_bytes()).hexdigest()
    (artifact / MANIFEST).write_text((artifact / MANIFEST).read_text().replace(old, new))


def another_artifact(artifact: Path) -> None:
    other = put(ArtifactStore(artifact.parent.parent), hash_json("other"))
    shutil.rmtree(artifact)
    shutil.copytree(other.path, artifact)


def flipped_seal(artifact: Path) -> None:
    seal_of(artifact).write_text("0" * 64)


DAMAGES = [
    flip_a_byte,
    remove_a_file,
    add_a_file,
    changed_fact,
    cut_manifest,
    no_text,
    file_and_its_hash,
    another_artifact,
    flipped_seal,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_an_altered_artifact_is_noted_once_and_made_again(damage: Callable[[Path], None], store: ArtifactStore) -> None:
    made, manifest = put(store), (store.root / "artifacts" / KEY / MANIFEST).read_text()
    damage(made.path)
    again, notes = ArtifactStore(store.root), []
    again.note = notes.append
    assert again.find(KEY) is None or damage not in (remove_a_file, cut_manifest, no_text)
    assert again.get(KEY) is None
    repaired = put(again)
    assert again.get(KEY) == repaired
    assert json.loads((repaired.path / MANIFEST).read_text())["files"] == json.loads(manifest)["files"]
    repaired.verify()
    assert [note.endswith("It is made again.") and KEY in note for note in notes] == [True]
    assert again.verify() == [] and not list((again.root / "tmp").iterdir())


def test_an_artifact_of_a_store_without_seals_is_used_and_checked(store: ArtifactStore) -> None:
    made = put(store)
    shutil.rmtree(store.root / "seals")
    again = ArtifactStore(store.root)
    assert again.get(KEY) == made
    assert put(again, make=lambda draft: pytest.fail("made again")) == made
    flip_a_byte(made.path)
    assert ArtifactStore(store.root).get(KEY) is None


def test_what_a_run_uses_is_read_once(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = put(store, hash_json("parent"))
    child = put(store, hash_json("child"), parent=parent.key)
    read: list[Path] = []
    real = module.hash_file

    def counting(path: Path) -> str:
        read.append(path)
        return real(path)

    again = ArtifactStore(store.root)
    monkeypatch.setattr(module, "hash_file", counting)
    for _ in range(3):
        assert again.get(child.key) == child
        assert again.lineage(child) == [child, parent]
        put(again, child.key, make=lambda draft: pytest.fail("made again"))
    assert sorted(read) == sorted({*read})
    assert {path.parent for path in read} >= {child.path, parent.path}


def test_copy_file_refuses_what_was_altered_since_it_was_verified(store: ArtifactStore, tmp_path: Path) -> None:
    made = put(store)
    made.copy_file("inner/b.txt", tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text() == "second"
    flip_a_byte(made.path)
    with pytest.raises(StoreError, match=r"altered.*\n.*Run the same command again"):
        made.copy_file("a.txt", tmp_path / "a.txt")


def flip_a_graph(store: Path, names: str) -> Path:
    """Flips a bit in the middle of the largest file of that name in the store."""
    file = max(store.glob(f"artifacts/*/{names}"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return file.parent


@pytest.mark.slow
def test_compress_makes_altered_artifacts_again_and_packs_the_right_ones(cli: Any, finished: Path, tmp_path: Path) -> None:
    for name in ("model", "data", "store", "recipe.yaml"):
        (shutil.copytree if (finished / name).is_dir() else shutil.copy)(finished / name, tmp_path / name)
    altered = {flip_a_graph(tmp_path / "store", name).name for name in ("model.onnx", "answers.json", "data.arrow")}
    result = cli("compress", "recipe.yaml", *(word for override in FINISHED for word in ("--set", override)))
    assert result.code == 0, result.err
    assert result.err.count("It is made again.") == len(altered) == 3
    assert "predict with" in result.err and "measure latency" not in result.err
    right, bundle = finished / "runs" / "recipe" / "bundle", tmp_path / "runs" / "recipe" / "bundle"
    for file in right.glob("o*/*"):
        assert (bundle / file.relative_to(right)).read_bytes() == file.read_bytes(), file.name
    assert ArtifactStore(tmp_path / "store").verify() == []
    assert cli("verify", bundle).code == 0
