"""Weights that TensorFlow wrote: the fixtures of tensorflow/make_fixtures.py, read without it, and damaged ones refused."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from notes import Notes
from safetensors.numpy import load_file

import edgebert
from edgebert.core.store import ArtifactStore
from edgebert.errors import SourceError
from edgebert.models.folder import inspect_model
from edgebert.models.import_model import import_model, imported_contents
from edgebert.models.load import load_model, run_model
from edgebert.models.tensorflow.checkpoint import read_checkpoint
from edgebert.models.tensorflow.crc32c import crc32c
from edgebert.models.tensorflow.folder import TensorFlowWeights, tensorflow_weights
from edgebert.models.tensorflow.hdf5 import read_hdf5
from edgebert.models.tensorflow.names import GOOGLE, KERAS, torch_names
from edgebert.tasks import get_task

FIXTURES = Path(__file__).parent / "tensorflow"
INDEX, DATA = "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"
TASKS = {"roberta": "token-classification"}


def weights_of(folder: Path) -> TensorFlowWeights:
    found = tensorflow_weights(folder)
    assert found is not None
    return found


@pytest.fixture
def google(tmp_path: Path) -> Path:
    """A copy of Google's checkpoint."""
    return Path(shutil.copytree(FIXTURES / "google", tmp_path / "google"))


@pytest.fixture
def keras(tmp_path: Path) -> Path:
    """A copy of the folder with tf_model.h5."""
    return Path(shutil.copytree(FIXTURES / "bert", tmp_path / "keras"))


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "google"])
def test_the_model_answers_as_it_did_in_tensorflow(name: str, tmp_path: Path) -> None:
    weights_of(FIXTURES / name).write(tmp_path)
    model = load_model(tmp_path, get_task(TASKS.get(name, "text-classification")))
    expected = json.loads((FIXTURES / name / "logits.json").read_text())
    ids = torch.tensor(expected["ids"])
    batch = {"input_ids": ids, "token_type_ids": torch.tensor(expected["segments"]), "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        logits = run_model(model, batch)["logits"]
    assert torch.allclose(logits, torch.tensor(expected["logits"]), atol=2e-5)


def test_both_forms_hold_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    weights_of(FIXTURES / "bert").write(tmp_path / "a")
    weights_of(FIXTURES / "google").write(tmp_path / "b")
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b"))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert len(ours) == 41


@pytest.mark.parametrize(
    ("name", "start"), [("bert", "TensorFlow's tf_model.h5"), ("google", "Google's TensorFlow checkpoint")]
)
def test_a_folder_is_imported_as_it_is(name: str, start: str, tmp_path: Path) -> None:
    notes = Notes()
    store = ArtifactStore(tmp_path / "store")
    store.prepare()
    model = inspect_model(FIXTURES / name)
    imported = import_model(model, store, notes)
    assert any(start in line and "41 tensors" in line for line in notes.lines)
    assert {"model.safetensors", "config.json", "tokenizer.json", "vocab.txt"} <= set(imported.manifest.files)
    assert "tf_model.h5" not in imported.manifest.files and "bert_config.json" not in imported.manifest.files
    assert imported_contents(model, imported)["tensorflow"] == "1"
    plain = inspect_model(imported.path)
    assert plain.tensorflow is None and plain.tensors == model.tensors
    assert plain.labels == ("LABEL_0", "LABEL_1", "LABEL_2") and plain.has_head(get_task("text-classification"))


@pytest.mark.parametrize("cased", [True, False])
def test_a_checkpoint_of_google_is_cased_where_its_vocabulary_is(cased: bool, google: Path, tmp_path: Path) -> None:
    from edgebert.models.import_model import usable_tokenizer
    from edgebert.models.matched_tokenizer import match_tokenizer

    tokens = (google / "vocab.txt").read_text().replace("\nfilm\n", "\nFILM\n" if cased else "\nfilm\n")
    (google / "vocab.txt").write_text(tokens)
    model, copy = inspect_model(google), tmp_path / "copy"
    copy.mkdir()
    model.copy_tokenizer_to(copy)
    tokenizer = usable_tokenizer(copy, model)
    assert match_tokenizer(tokenizer, model).written is None
    assert tokenizer.encode("FILM").tokens[1:-1] == (["FILM"] if cased else ["film"])


def test_checksums_are_those_of_rfc_3720() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    long = np.random.default_rng(0).integers(0, 256, 50_001, dtype=np.uint8).tobytes()
    state = 0xFFFFFFFF
    for byte in long:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    assert crc32c(long) == state ^ 0xFFFFFFFF  # in lanes


def test_names_of_other_heads_are_known() -> None:
    names = {
        "mlm___cls/tf_bert/mlm___cls/predictions/transform/dense/kernel:0": "cls.predictions.transform.dense.weight",
        "lm_head/tf_roberta_for_masked_lm/lm_head/layer_norm/gamma:0": "lm_head.layer_norm.weight",
        "mpnet/m/mpnet/encoder/relative_attention_bias/embeddings:0": "mpnet.encoder.relative_attention_bias.weight",
    }
    assert {name: found for name, (found, _) in torch_names(names, KERAS).items()} == names
    names = {
        "cls/predictions/output_bias": "cls.predictions.bias",
        "cls/seq_relationship/output_weights": "cls.seq_relationship.weight",
        "cls/squad/output_weights": "qa_outputs.weight",
        "bert/embeddings/token_type_embeddings": "bert.embeddings.token_type_embeddings.weight",
    }
    assert {name: found for name, (found, _) in torch_names([*names, "global_step", "a/adam_m"], GOOGLE).items()} == names


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(content)


def _link(folder: Path) -> None:
    with h5py.File(folder / "tf_model.h5", "a") as file:
        file["bert/other"] = h5py.ExternalLink("/etc/hostname", "/")


def _cycle(folder: Path) -> None:
    with h5py.File(folder / "tf_model.h5", "a") as file:
        file["bert/again"] = file["bert"]


def _packed(folder: Path) -> None:
    with h5py.File(folder / "tf_model.h5", "a") as file:
        file.create_dataset("bert/x/bomb/kernel:0", (1 << 20, 1 << 20), dtype="f4", compression="gzip")


def _outside(folder: Path) -> None:
    with h5py.File(folder / "tf_model.h5", "a") as file:
        file.create_dataset("bert/x/y/kernel:0", (2, 2), dtype="f4", external=[("/etc/hostname", 0, 16)])


def _empty(folder: Path) -> None:
    with h5py.File(folder / "tf_model.h5", "w"):
        pass


KERAS_FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut off": (
        lambda folder: (folder / "tf_model.h5").write_bytes((folder / "tf_model.h5").read_bytes()[:60_000]),
        "not a whole HDF5",
    ),
    "not HDF5": (lambda folder: (folder / "tf_model.h5").write_text("version https://git-lfs"), "not a whole HDF5"),
    "a link to another file": (_link, "is a link to another place"),
    "a group in itself": (_cycle, "without an end|twice|more than"),
    "a compressed bomb": (_packed, "in another file, or in pieces"),
    "values of another file": (_outside, "in another file, or in pieces"),
    "nothing in it": (_empty, "holds no weights"),
}


@pytest.mark.parametrize("fault", KERAS_FAULTS)
def test_an_h5_that_keras_did_not_write_is_refused(fault: str, keras: Path) -> None:
    spoil, message = KERAS_FAULTS[fault]
    spoil(keras)
    with pytest.raises(SourceError, match=message):
        inspect_model(keras)


GOOGLE_FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a flipped bit in the index": (lambda folder: flip(folder / INDEX, 40), "does not have its checksum"),
    "an index cut off": (lambda folder: (folder / INDEX).write_bytes((folder / INDEX).read_bytes()[:-1]), "last bytes"),
    "data cut off": (lambda folder: (folder / DATA).write_bytes((folder / DATA).read_bytes()[:-4000]), "does not hold"),
    "no data": (lambda folder: (folder / DATA).unlink(), "no checkpoint"),
    "no vocabulary": (lambda folder: (folder / "vocab.txt").unlink(), "vocab.txt is missing"),
    "two checkpoints": (
        lambda folder: (
            [shutil.copy(folder / name, folder / f"model.ckpt-{step}{name[15:]}") for name in (INDEX, DATA) for step in (1, 2)]
            and (folder / INDEX).unlink()
        ),
        "several checkpoints: model.ckpt-1, model.ckpt-2",
    ),
}


@pytest.mark.parametrize("fault", GOOGLE_FAULTS)
def test_a_damaged_checkpoint_is_refused(fault: str, google: Path) -> None:
    spoil, message = GOOGLE_FAULTS[fault]
    spoil(google)
    with pytest.raises(SourceError, match=message):
        inspect_model(google)


def test_a_flipped_bit_in_the_values_is_found(google: Path, tmp_path: Path) -> None:
    flip(google / DATA, 30_000)
    with pytest.raises(SourceError, match="do not have their checksum"):
        weights_of(google).write(tmp_path)


def test_a_lying_index_with_right_checksums_is_refused(google: Path) -> None:
    """Entries that name more than the file holds, and varints without an end: each with the checksum of its block."""
    from edgebert.models.tensorflow import leveldb_table
    from edgebert.models.tensorflow.crc32c import masked_crc32c

    draw = random.Random(0)
    content = (google / INDEX).read_bytes()
    offset, _size = leveldb_table._index_place(content)
    refused = 0
    for _ in range(200):
        spoilt = bytearray(content)
        first = draw.randrange(0, offset - 60)
        spoilt[first] = draw.randrange(256)
        end = _end_of_first_block(content)
        struct.pack_into("<I", spoilt, end + 1, masked_crc32c(bytes(spoilt[: end + 1])))
        (google / INDEX).write_bytes(spoilt)
        try:
            read_checkpoint(google / INDEX)
        except SourceError:
            refused += 1
    assert refused > 60


def _end_of_first_block(content: bytes) -> int:
    """The size of the block of entries, which begins at 0."""
    from edgebert.models.tensorflow import leveldb_table
    from edgebert.models.tensorflow.leveldb_table import varint

    index = leveldb_table._block(content, *leveldb_table._index_place(content))
    (_, place), *_rest = leveldb_table._of_block(index)
    start, at = varint(place, 0)
    assert start == 0
    return varint(place, at)[0]


def test_a_spoilt_h5_is_read_or_refused(tmp_path: Path) -> None:
    content = (FIXTURES / "bert" / "tf_model.h5").read_bytes()
    draw, file, refused = random.Random(1), tmp_path / "tf_model.h5", 0
    for _ in range(80):
        spoilt = bytearray(content)
        for _ in range(4):
            spoilt[draw.randrange(40_000)] = draw.randrange(256)
        file.write_bytes(spoilt)
        try:
            read_hdf5(file)
        except SourceError:
            refused += 1
    assert refused > 8


def test_names_of_shared_layers_are_known() -> None:
    name = "albert/tf_albert_model/encoder/albert_layer_groups_._0/albert_layers_._0/ffn/kernel:0"
    assert torch_names([name], KERAS)[name][0] == "encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"


def test_an_h5_whose_names_share_values_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tf_model.h5"
    with h5py.File(file, "w") as opened:
        opened["one"] = np.zeros(20_000, np.float32)
        for number in range(20):
            opened[f"again{number}"] = opened["one"]
    with pytest.raises(SourceError, match="several times"):
        read_hdf5(file)


def test_the_modules_of_a_sentence_model_come_along(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "bert", tmp_path / "model"))
    (folder / "1_Pooling").mkdir()
    modules = [{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}]
    modules += [{"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    made = edgebert.convert(folder, tmp_path / "new")
    assert json.loads((made / "modules.json").read_text()) == modules
    assert json.loads((made / "1_Pooling" / "config.json").read_text()) == {"pooling_mode_cls_token": True}
