"""TensorFlowWeights: a model folder whose weights TensorFlow wrote, as the folder that Transformers reads today."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgebert.errors import SourceError
from edgebert.models.json_file import read_json
from edgebert.models.tensorflow.checkpoint import read_checkpoint
from edgebert.models.tensorflow.google import GOOGLE_CONFIG, google_config, is_cased
from edgebert.models.tensorflow.hdf5 import read_hdf5
from edgebert.models.tensorflow.names import GOOGLE, KERAS, Rules, torch_names
from edgebert.models.tensorflow.stored import StoredArray
from edgebert.models.weight_files import WEIGHTS, WEIGHTS_INDEX, Tensor

VERSION = 1
"""Raise it when the same files become other tensors: keys of models in the store then miss."""
KERAS_WEIGHTS, GOOGLE_WEIGHTS = "tf_model.h5", "bert_model.ckpt.index"


@dataclass(frozen=True)
class TensorFlowWeights:
    """The weights of a folder, by their names in PyTorch."""

    title: str
    """What was found, for people."""
    files: tuple[str, ...]
    """Names of the files that hold the weights."""
    config_file: str
    config: Mapping[str, Any]
    """The content of config.json, as the folder has it or as Google's bert_config.json says."""
    arrays: Mapping[str, tuple[StoredArray, bool]]
    """Name in PyTorch -> its place, and whether the matrix has to be turned."""
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    """What tokenizer_config.json has to say, where the folder has none."""

    def tensors(self) -> dict[str, Tensor]:
        """Name in PyTorch -> dtype, shape and file."""
        return {
            name: Tensor(array.dtype, array.shape[::-1] if turned else array.shape, array.file.name)
            for name, (array, turned) in self.arrays.items()
        }

    def write(self, folder: Path) -> None:
        """Writes model.safetensors, config.json and, where there is something to say, tokenizer_config.json.

        Raises:
            SourceError: the bytes of a tensor do not have their checksum.
        """
        from safetensors.numpy import save_file

        values = {name: _values(name, array, turned) for name, (array, turned) in self.arrays.items()}
        save_file(values, folder / WEIGHTS, metadata={"format": "pt"})
        self.write_configs(folder)

    def write_configs(self, folder: Path) -> None:
        """Writes config.json and, where there is something to say, tokenizer_config.json."""
        for name, content in (("config.json", self.config), ("tokenizer_config.json", self.tokenizer)):
            if content:
                (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8", newline="\n")


def _values(name: str, array: StoredArray, turned: bool) -> npt.NDArray[Any]:
    values = array.read(name)
    return np.ascontiguousarray(values.T if turned else values)


def tensorflow_weights(path: Path) -> TensorFlowWeights | None:
    """The weights of a folder where TensorFlow alone wrote them; None for other folders.

    Raises:
        SourceError: they are damaged, or not a whole model.
        MissingPackage: h5py is not installed.
    """
    if (path / WEIGHTS).is_file() or (path / WEIGHTS_INDEX).is_file():
        return None
    if (path / KERAS_WEIGHTS).is_file() and (path / "config.json").is_file():
        arrays = _named(path / KERAS_WEIGHTS, read_hdf5, KERAS)
        title = f"TensorFlow's {KERAS_WEIGHTS}"
        return TensorFlowWeights(title, (KERAS_WEIGHTS,), "config.json", read_json(path / "config.json"), arrays)
    index = _checkpoint_of(path)
    return None if index is None else _google(path, index)


def _checkpoint_of(path: Path) -> Path | None:
    """The index of the folder's only checkpoint, or of bert_model.ckpt among several; None where there is none."""
    if not (path / GOOGLE_CONFIG).is_file() or (path / "config.json").is_file():
        return None
    found = [file for file in sorted(path.glob("*.index")) if any(path.glob(f"{_escaped(file.stem)}.data-*"))]
    chosen = [file for file in found if file.name == GOOGLE_WEIGHTS] or found
    if len(chosen) > 1:
        raise SourceError(
            f"{path} has several checkpoints: {', '.join(file.stem for file in chosen[:4])}.",
            hint=f"Leave one of them there, with {GOOGLE_CONFIG} and vocab.txt.",
        )
    if chosen:
        return chosen[0]
    raise SourceError(
        f"{path} has {GOOGLE_CONFIG}, but no checkpoint (bert_model.ckpt.index and bert_model.ckpt.data-00000-of-00001).",
        hint="Fetch all of its files; checkpoints of TensorFlow before 1.0 (one .ckpt file) are not read.",
    )


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _google(path: Path, index: Path) -> TensorFlowWeights:
    arrays = _named(index, read_checkpoint, GOOGLE)
    files = dict.fromkeys([index.name, *sorted(array.file.name for array, _ in arrays.values())])
    shapes = {name: array.shape for name, (array, _) in arrays.items()}
    config = google_config(read_json(path / GOOGLE_CONFIG), shapes)
    cased = is_cased(path / "vocab.txt")
    case = "cased" if cased else "uncased"
    own = (path / "tokenizer_config.json").is_file()
    return TensorFlowWeights(
        title=f"Google's TensorFlow checkpoint {index.stem} ({case}, as vocab.txt is)",
        files=tuple(files),
        config_file=GOOGLE_CONFIG,
        config=config,
        arrays=arrays,
        tokenizer={} if own else {"do_lower_case": not cased, "tokenizer_class": "BertTokenizer"},
    )


def _named(file: Path, read: Callable[[Path], Mapping[str, StoredArray]], rules: Rules) -> dict[str, tuple[StoredArray, bool]]:
    arrays = read(file)
    try:
        names = torch_names(arrays, rules)
    except ValueError as error:
        raise SourceError(f"{file} holds a tensor twice: {error}.", hint="Fetch it again.") from error
    if not names:
        raise SourceError(f"{file} holds no weights.", hint="Fetch it again.")
    for name, (renamed, turned) in names.items():
        if turned and len(arrays[name].shape) != 2:
            raise SourceError(f"{file}: {name[:80]} ({renamed[:80]}) is no matrix.", hint="Fetch it again.")
    return {renamed: (arrays[name], turned) for name, (renamed, turned) in names.items()}
