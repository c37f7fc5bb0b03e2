"""Folders of PyTorch's pickles and of TensorFlow become safetensors; what is no plain model leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_families import tiny_folder

import edgebert
from edgebert.errors import InputError, SourceError

FIXTURES = Path(__file__).parent / "tensorflow"


class Evil:
    """What runs a command when it is unpickled in the usual way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with safetensors."""
    return tiny_folder("bert", "ForSequenceClassification", tmp_path_factory.mktemp("convert") / "whole")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """The folder without its weights."""
    copied = Path(shutil.copytree(whole, tmp_path / "old"))
    (copied / "model.safetensors").unlink()
    return copied


def old_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in tensors.items()
    }


def test_a_pickle_of_old_names_and_tied_tensors_is_converted(whole: Path, folder: Path, tmp_path: Path) -> None:
    tensors = load_file(whole / "model.safetensors")
    table = tensors["bert.embeddings.word_embeddings.weight"]
    torch.save({**old_names(tensors), "cls.predictions.decoder.weight": table}, folder / "pytorch_model.bin")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "modules.json").write_text(json.dumps([{"path": ""}, {"path": "1_Pooling"}]))
    new = edgebert.convert(folder, tmp_path / "new")
    made = load_file(new / "model.safetensors")
    assert made.keys() == {*tensors, "cls.predictions.decoder.weight"}
    assert all(torch.equal(made[name], tensors[name]) for name in tensors)
    assert {file.name for file in new.iterdir()} >= {"config.json", "tokenizer.json", "modules.json", "1_Pooling"}
    assert not list(tmp_path.glob(".edgebert-*"))
    with pytest.raises(InputError, match="exists"):
        edgebert.convert(folder, new)
    with pytest.raises(SourceError, match="has safetensors already"):
        edgebert.convert(new, tmp_path / "newer")


def test_shards_are_joined(whole: Path, folder: Path, tmp_path: Path) -> None:
    tensors = load_file(whole / "model.safetensors")
    parts = {"a.bin": dict(list(tensors.items())[:9]), "b.bin": dict(list(tensors.items())[9:])}
    for name, part in parts.items():
        torch.save(part, folder / name)
    names = {tensor: name for name, part in parts.items() for tensor in part}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
    made = load_file(edgebert.convert(folder, tmp_path / "new") / "model.safetensors")
    assert made.keys() == tensors.keys()
    (folder / "b.bin").unlink()
    with pytest.raises(SourceError, match=r"names b.bin, which is not in the folder"):
        edgebert.convert(folder, tmp_path / "newer")


@pytest.mark.parametrize("name", ["bert", "google"])
def test_weights_of_tensorflow_are_converted(name: str, tmp_path: Path) -> None:
    new = edgebert.convert(FIXTURES / name, tmp_path / "new")
    assert len(load_file(new / "model.safetensors")) == 41
    assert json.loads((new / "config.json").read_text())["model_type"] == "bert"
    assert (new / "vocab.txt").is_file()


def _evil(folder: Path) -> None:
    torch.save({"a": Evil(folder / "ran")}, folder / "pytorch_model.bin")


def _huge(folder: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(1 << 20, 1 << 20)}, folder / "pytorch_model.bin")


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "one that runs a command": (_evil, "cannot be read as tensors alone: .*"),
    "one that claims a million million values": (_huge, "claims to be larger than its file"),
    "a whole training": (
        lambda folder: torch.save({"state_dict": {}}, folder / "pytorch_model.bin"),
        "holds state_dict, a dict",
    ),
    "no pickle": (lambda folder: (folder / "pytorch_model.bin").write_text("oid sha256"), "cannot be read as tensors alone"),
    "no weights": (lambda folder: None, "no weights that can be converted"),
    "another model": (
        lambda folder: torch.save({"a": torch.zeros(2)}, folder / "pytorch_model.bin"),
        "old do not fit its config",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_plain_model_is_refused_and_leaves_nothing(fault: str, folder: Path, tmp_path: Path) -> None:
    spoil, message = FAULTS[fault]
    spoil(folder)
    with pytest.raises(SourceError, match=message) as refused:
        edgebert.convert(folder, tmp_path / "new")
    assert "weights_only" not in str(refused.value)  # torch's advice is to run the file's code
    assert not (folder / "ran").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["old"]
