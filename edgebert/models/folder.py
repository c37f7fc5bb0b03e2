"""Inspects a Transformers model folder: its config, labels, weight files and tensors, without loading it. safetensors only."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgebert.core.store import hash_file
from edgebert.errors import SourceError
from edgebert.models.families import FAMILIES, family_of_config, find_family
from edgebert.models.families.base import Family
from edgebert.tasks.base import Task

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
WHOLE_NUMBERS = ("max_position_embeddings", "vocab_size", "num_labels", "pad_token_id", "attention_head_size")
ABSOLUTE = "absolute"
"""The only `position_embedding_type` that Transformers still supports."""
SHORTEST = 3
"""Fewest tokens that a text needs room for: the first special token, one of its own, the last."""
MAY_BE_NULL = ("num_labels", "pad_token_id")
REWRITE = "Correct it, or take the one that save_pretrained() wrote."
OF_FIRST_TOKEN = re.compile(r"(^|\.)(pooler|pre_classifier)\.")
"""Tensors of models whose head reads the first token."""
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
    def family(self) -> Family:
        """The family of the model."""
        return family_of_config(self.config)

    @property
    def max_positions(self) -> int:
        """The longest input in tokens that the position table has rows for."""
        return self.family.longest_input(self.config)

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
        """Whether the model was fine-tuned for the task: its class is the task's, and the weights of the head are there."""
        return self.fits(task) and any(name.startswith(f"{task.head}.") for name in self.tensors)

    def head_fault(self, task: Task) -> str:
        """Why the model has no head for the task, where it has none."""
        if self.fits(task) or str(self.architecture).endswith("Model"):
            return "the model was not fine-tuned for the task yet."
        return f"the model is a {self.architecture}, which was made for another task than {task.name}."

    def fits(self, task: Task) -> bool:
        """Whether the class that config.json names is the task's; where it names none, whether the tensors are no other's."""
        if self.architecture is None and task.reads == "all" and any(OF_FIRST_TOKEN.search(name) for name in self.tensors):
            return False
        return self.architecture is None or self.architecture.endswith(task.architecture)

    @property
    def architecture(self) -> str | None:
        """Name of the class that the folder was saved from, or None where config.json names none."""
        named = self.config.get("architectures") or ()
        return str(named[0]) if named else None

    def contents(self) -> dict[str, str]:
        """Name -> sha256 of every file that edgebert uses."""
        return {name: hash_file(self.path / name) for name in self.files()}

    def files(self) -> list[str]:
        """Names of the files that edgebert uses."""
        others = [WEIGHTS_INDEX, "config.json", *self.family.tokenizer_files]
        return sorted({*self.weight_files, *(name for name in others if (self.path / name).is_file())})

    def copy_to(self, folder: Path) -> None:
        """Copies the files that edgebert uses."""
        for name in self.files():
            shutil.copyfile(self.path / name, folder / name)


def inspect_model(path: Path, origin: Mapping[str, Any] | None = None) -> ModelFolder:
    """Reads config.json and the safetensors headers of a folder.

    Raises:
        SourceError: the folder is not a model that edgebert can use.
    """
    if not (path / "config.json").is_file():
        raise SourceError(
            f"{path} has no config.json, so it is not a model folder.",
            hint="Name the folder that save_pretrained() wrote.",
        )
    config = read_json(path / "config.json")
    _refuse_code(path / "config.json", config)
    family = find_family(config.get("model_type"))
    if family is None:
        known = ", ".join(family.model_type for family in FAMILIES)
        raise SourceError(
            f"{path} is a model of type {config.get('model_type', 'unknown')!r}; edgebert compresses encoders of these types, "
            f"plain or pruned by it: {known}.",
            hint="Name a folder whose config.json says so.",
        )
    _check_config(path / "config.json", config, family)
    weight_files = _weight_files(path)
    _check_tokenizer_files(path, family)
    tensors = frozenset(name for file in weight_files for name in _header(path / file))
    _check_tensors(path, family, tensors)
    return ModelFolder(path, config, weight_files, tensors, dict(origin or {"source": str(path)}))


def _check_tokenizer_files(path: Path, family: Family) -> None:
    """Raises SourceError if there is no tokenizer, a part of it is missing, or it wants to run code."""
    if not (path / "tokenizer.json").is_file():
        missing = [name for name in family.vocabulary_files if not (path / name).is_file()]
        if len(missing) == len(family.vocabulary_files):
            raise SourceError(
                f"{path} has no tokenizer (tokenizer.json or {' and '.join(family.vocabulary_files)}).",
                hint="Save it there: tokenizer.save_pretrained(...)",
            )
        if missing:
            raise SourceError(
                f"{path} has only a part of its tokenizer: {missing[0]} is missing.",
                hint="Fetch it from where the model is from, or save the tokenizer there: tokenizer.save_pretrained(...)",
            )
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (path / name).is_file():
            _refuse_code(path / name, read_json(path / name))  # a bundle has a copy, which other clients read


def _check_tensors(path: Path, family: Family, tensors: frozenset[str]) -> None:
    """Raises SourceError for weights that Transformers would drop silently."""
    segments = [name for name in sorted(tensors) if "token_type_embeddings" in name]
    if segments and family.embedding.segment is None:
        raise SourceError(
            f"The weights in {path} hold {segments[0]}, but {family.title} has no segment ids.",
            hint="Its config.json belongs to another model: take the one that save_pretrained() wrote beside the weights.",
        )


def _refuse_code(file: Path, config: Mapping[str, Any]) -> None:
    if config.get("auto_map"):
        raise SourceError(
            f"{file.parent} wants to run code of its own (auto_map in {file.name}); edgebert never does that.",
            hint="Where the model is a plain one of Transformers, remove auto_map.",
        )


def _check_config(file: Path, config: Mapping[str, Any], family: Family) -> None:
    """Raises SourceError for a value that edgebert reads and cannot use."""
    sizes = [getattr(family.names, name) for name in family.defaults]
    for name in (*WHOLE_NUMBERS, *sizes):
        if not isinstance(value := config.get(name, 0), int) and not (value is None and name in MAY_BE_NULL):
            raise SourceError(f"{file}: {name} is {json.dumps(value)}, not a whole number.", hint=REWRITE)
    for name in (*sizes, "attention_head_size"):
        if config.get(name, 1) < 1:
            raise SourceError(f"{file}: {name} is {config[name]}; it has to be 1 or more.", hint=REWRITE)
    _refuse_other_kinds(file, config, family)
    _check_class(file, config)
    _check_positions(file, config, family)
    if config.get("model_type") == family.pruned_type:
        _check_layers(file, config, family)
    labels = config.get("id2label") or {}
    if not isinstance(labels, dict) or set(labels) != {str(index) for index in range(len(labels))}:
        raise SourceError(f'{file}: id2label does not name the outputs "0", "1", ... in turn.', hint=REWRITE)


def _check_class(file: Path, config: Mapping[str, Any]) -> None:
    """Raises SourceError unless the config names classes as a list of names, or none."""
    named = config.get("architectures") or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise SourceError(f"{file}: architectures is {json.dumps(named)}, not a list of names.", hint=REWRITE)


def _check_positions(file: Path, config: Mapping[str, Any], family: Family) -> None:
    """Raises SourceError where positions cannot be counted, or the position table has rows for no text."""
    if family.skips_padding and (config.get("pad_token_id") is None or config["pad_token_id"] < 0):
        raise SourceError(
            f"{file} has no pad_token_id, from which {family.title} counts its positions.",
            hint="Add the id of the tokenizer's padding token; it is 1 in nearly all such models.",
        )
    if family.longest_input(config) < SHORTEST:
        raise SourceError(
            f"{file}: max_position_embeddings is {config['max_position_embeddings']}; "
            f"a text needs {SHORTEST + family.first_position(config)} rows or more.",
            hint=REWRITE,
        )


def _refuse_other_kinds(file: Path, config: Mapping[str, Any], family: Family) -> None:
    """Raises SourceError for models whose weights Transformers would drop silently, or run as another model."""
    positions = config.get("position_embedding_type") or ABSOLUTE
    if positions != ABSOLUTE:
        raise SourceError(
            f"{file}: position_embedding_type is {json.dumps(positions)}; Transformers has dropped the weights that it needs.",
            hint=f"Name a {family.title} with absolute positions, as nearly all have.",
        )
    for name in ("is_decoder", "add_cross_attention"):
        if config.get(name):
            raise SourceError(
                f"{file}: {name} is {json.dumps(config[name])}; edgebert compresses encoders.",
                hint=f"Name a plain {family.title}.",
            )


def _check_layers(file: Path, config: Mapping[str, Any], family: Family) -> None:
    """Raises SourceError if the sizes of a pruned model's layers are not one whole number for each layer."""
    layers = config.get(family.names.num_hidden_layers)
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
