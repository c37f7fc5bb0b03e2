"""Inspects a Transformers model folder: its config, labels, weight files and tensors, without loading it. safetensors only."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgebert.core.store import hash_file
from edgebert.errors import SourceError
from edgebert.tasks.base import Task

PRUNED_TYPE = "edgebert_pruned_bert"
"""`model_type` of a pruned BERT."""
MODEL_TYPES = ("bert", PRUNED_TYPE)
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "added_tokens.json",
)
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "attention_head_size")
WHOLE_NUMBERS = ("max_position_embeddings", "vocab_size", "num_labels", "pad_token_id", *SIZES)
ABSOLUTE = "absolute"
"""The only `position_embedding_type` that Transformers still supports."""
MAY_BE_NULL = ("num_labels", "pad_token_id")
REWRITE = "Correct it, or take the one that save_pretrained() wrote."
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that passed inspection."""

    path: Path
    config: Mapping[str, Any]
    weight_files: tuple[str, ...]
    tensors: frozenset[str]
    origin: Mapping[str, Any]

    @property
    def max_positions(self) -> int:
        """Rows of the position table: the longest input in tokens."""
        return int(self.config.get("max_position_embeddings", 512))

    def max_length(self) -> int:
        """Longest input, in tokens, that both the position table and the tokenizer allow."""
        limit = read_json(self.path / "tokenizer_config.json").get("model_max_length") if self.has_tokenizer_config else None
        return min(self.max_positions, int(limit)) if isinstance(limit, int | float) and limit < 1e9 else self.max_positions

    @property
    def has_tokenizer_config(self) -> bool:
        """Whether the folder has a tokenizer_config.json."""
        return (self.path / "tokenizer_config.json").is_file()

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the outputs; LABEL_0, LABEL_1, ... if the config names none."""
        names = self.config.get("id2label") or {}
        if names:
            return tuple(str(names[key]) for key in sorted(names, key=int))
        return tuple(f"LABEL_{index}" for index in range(int(self.config.get("num_labels", 2))))

    def has_head(self, task: Task) -> bool:
        """Whether the model was fine-tuned for the task."""
        return task.head in self.tensors

    def contents(self) -> dict[str, str]:
        """Name -> sha256 of every file that edgebert uses."""
        return {name: hash_file(self.path / name) for name in self.files()}

    def files(self) -> list[str]:
        """Names of the files that edgebert uses."""
        others = [WEIGHTS_INDEX, "config.json", *TOKENIZER_FILES]
        return sorted({*self.weight_files, *(name for name in others if (self.path / name).is_file())})

    def copy_to(self, folder: Path) -> None:
        """Copies the files that edgebert uses."""
        for name in self.files():
            shutil.copyfile(self.path / name, folder / name)


def inspect_model(path: Path, origin: Mapping[str, Any] | None = None) -> ModelFolder:
    """Reads config.json and the safetensors headers of a folder.

    Raises:
        SourceError: the folder is not a BERT that edgebert can use.
    """
    if not (path / "config.json").is_file():
        raise SourceError(
            f"{path} has no config.json, so it is not a model folder.",
            hint="Name the folder that save_pretrained() wrote.",
        )
    config = read_json(path / "config.json")
    _refuse_code(path / "config.json", config)
    if config.get("model_type") not in MODEL_TYPES:
        known = ", ".join(MODEL_TYPES)
        raise SourceError(
            f"{path} is a model of type {config.get('model_type', 'unknown')!r}; edgebert compresses BERT encoders ({known}).",
            hint="Name a folder whose config.json says so.",
        )
    _check_config(path / "config.json", config)
    weight_files = _weight_files(path)
    if not any((path / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise SourceError(
            f"{path} has no tokenizer (tokenizer.json or vocab.txt).",
            hint="Save it there: tokenizer.save_pretrained(...)",
        )
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (path / name).is_file():
            _refuse_code(path / name, read_json(path / name))  # a bundle has a copy, which other clients read
    tensors = frozenset(name for file in weight_files for name in _header(path / file))
    return ModelFolder(path, config, weight_files, tensors, dict(origin or {"source": str(path)}))


def _refuse_code(file: Path, config: Mapping[str, Any]) -> None:
    if config.get("auto_map"):
        raise SourceError(
            f"{file.parent} wants to run code of its own (auto_map in {file.name}); edgebert never does that.",
            hint="Where the model is a plain BERT, remove auto_map.",
        )


def _check_config(file: Path, config: Mapping[str, Any]) -> None:
    """Raises SourceError for a value that edgebert reads and cannot use."""
    for name in WHOLE_NUMBERS:
        if not isinstance(value := config.get(name, 0), int) and not (value is None and name in MAY_BE_NULL):
            raise SourceError(f"{file}: {name} is {json.dumps(value)}, not a whole number.", hint=REWRITE)
    for name in SIZES:
        if config.get(name, 1) < 1:
            raise SourceError(f"{file}: {name} is {config[name]}; it has to be 1 or more.", hint=REWRITE)
    _refuse_other_kinds(file, config)
    if config.get("model_type") == PRUNED_TYPE:
        _check_layers(file, config)
    labels = config.get("id2label") or {}
    if not isinstance(labels, dict) or set(labels) != {str(index) for index in range(len(labels))}:
        raise SourceError(f'{file}: id2label does not name the outputs "0", "1", ... in turn.', hint=REWRITE)


def _refuse_other_kinds(file: Path, config: Mapping[str, Any]) -> None:
    """Raises SourceError for BERTs whose weights Transformers would drop silently, or run as another model."""
    positions = config.get("position_embedding_type") or ABSOLUTE
    if positions != ABSOLUTE:
        raise SourceError(
            f"{file}: position_embedding_type is {json.dumps(positions)}; Transformers has dropped the weights that it needs.",
            hint="Name a BERT with absolute positions, as nearly all have.",
        )
    for name in ("is_decoder", "add_cross_attention"):
        if config.get(name):
            raise SourceError(
                f"{file}: {name} is {json.dumps(config[name])}; edgebert compresses encoders.", hint="Name a plain BERT."
            )


def _check_layers(file: Path, config: Mapping[str, Any]) -> None:
    """Raises SourceError if the sizes of a pruned BERT's layers are not one whole number for each layer."""
    layers = config.get("num_hidden_layers")
    for name in ("layer_heads", "layer_intermediate_sizes"):
        sizes = config.get(name)
        if not isinstance(sizes, list) or not all(type(size) is int and size >= 1 for size in sizes) or len(sizes) != layers:
            raise SourceError(
                f"{file}: {name} is {json.dumps(sizes)}, not a list of {layers} whole numbers from 1 on, one for each layer.",
                hint=REWRITE,
            )


def _weight_files(path: Path) -> tuple[str, ...]:
    if (path / WEIGHTS).is_file():
        return (WEIGHTS,)
    if (path / WEIGHTS_INDEX).is_file():
        return _shards(path / WEIGHTS_INDEX)
    pickled = [file.name for pattern in PICKLED for file in sorted(path.glob(pattern))]
    if pickled:
        raise SourceError(
            f"{path} has its weights only as {pickled[0]}; edgebert reads safetensors only, because a pickle can run code.",
            hint="Where you trust the file: AutoModel...from_pretrained(FOLDER).save_pretrained(NEW, safe_serialization=True)",
        )
    raise SourceError(f"{path} has no {WEIGHTS}.", hint="Name the folder that save_pretrained() wrote.")


def _shards(index: Path) -> tuple[str, ...]:
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(shard, str) for shard in files.values()):
        raise SourceError(f"{index} names no weight files.", hint="It may be a partial download: fetch it again.")
    shards = sorted(set(files.values()))
    for shard in shards:
        if PurePosixPath(shard).name != shard or not (index.parent / shard).is_file():
            raise SourceError(f"{index} names {shard}, which is not in the folder.", hint="Fetch all the weight files.")
    return tuple(shards)


def count_parameters(folder: Path) -> int:
    """Number of floating-point values in the weights of a model folder. Integers are buffers, such as BERT's position_ids.

    Raises:
        SourceError: weight files are missing or incomplete.
    """
    tensors = [tensor for name in _weight_files(folder) for tensor in _header(folder / name).values()]
    return sum(math.prod(tensor["shape"]) for tensor in tensors if tensor["dtype"].startswith(("F", "BF")))


def _header(file: Path) -> dict[str, dict[str, Any]]:
    """Name -> dtype, shape and offsets, from a safetensors header: 8 bytes of length (little endian), then JSON."""
    try:
        with file.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if length > min(file.stat().st_size, 100 << 20):
                raise ValueError
            header = json.loads(handle.read(length))
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        if 8 + length + end != file.stat().st_size:
            raise ValueError
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(
            f"{file} is not a whole safetensors file.",
            hint="It may be a partial download or a Git LFS pointer: fetch it again.",
        ) from error
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object from a file.

    Raises:
        SourceError: the file cannot be read, or does not hold a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise SourceError(f"{path} is not valid JSON.", hint="It may be a partial download: fetch it again.") from error
    if not isinstance(value, dict):
        raise SourceError(f"{path} does not hold a JSON object.", hint=REWRITE)
    return value
