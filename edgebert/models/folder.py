"""Inspects a Transformers model folder without loading it: config, labels, weight files and tensors. Weights are safetensors,
or TensorFlow's, which are read as data; never a pickle."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebert.core.store import hash_file
from edgebert.errors import SourceError
from edgebert.models.config_file import SHORTEST, check_config, refuse_code
from edgebert.models.families import FAMILIES, family_of_config, find_family
from edgebert.models.families.base import Family
from edgebert.models.foreign_weights import refuse_adapters, refuse_foreign_names, refuse_pruned_heads
from edgebert.models.json_file import LIMIT, read_json
from edgebert.models.tensorflow.folder import VERSION as TENSORFLOW_VERSION
from edgebert.models.tensorflow.folder import TensorFlowWeights, tensorflow_weights
from edgebert.models.tensors import check_tensors, head_shapes, label_count, plain_name
from edgebert.models.weight_files import WEIGHTS_INDEX, read_tensors, weight_files
from edgebert.tasks.base import Task

UNLIMITED = 1e9
"""Tokens from which on a limit is none."""
OF_FIRST_TOKEN = re.compile(r"(^|\.)(pooler|pre_classifier)\.")
"""Tensors of models whose head reads the first token."""
BODIES = ("Model", "ForMaskedLM", "ForPreTraining")
"""Endings of classes whose encoders were trained on text alone, or whose vectors are what they give."""
SAVE_TOKENIZER = "Save it there: tokenizer.save_pretrained(...)"


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that passed inspection."""

    path: Path
    config: Mapping[str, Any]
    weight_files: tuple[str, ...]
    tensors: frozenset[str]
    origin: Mapping[str, Any]
    tensorflow: TensorFlowWeights | None = None
    """The weights, where TensorFlow alone wrote them."""
    more_files: tuple[str, ...] = ()
    """Names of further files that the task reads, relative to the folder."""

    @property
    def family(self) -> Family:
        """The family of the model."""
        return family_of_config(self.config)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Inputs of the model's graphs, in order."""
        return self.family.inputs_for(self.config.get("type_vocab_size"))

    @property
    def max_positions(self) -> int:
        """The longest input in tokens that the position table has rows for."""
        return self.family.longest_input(self.config)

    def max_length(self) -> int:
        """Longest input, in tokens, that both the position table and the tokenizer allow."""
        config = read_json(self.path / "tokenizer_config.json") if self.has_tokenizer_config else {}
        limit = longest_text(config)
        return self.max_positions if limit is None else min(self.max_positions, limit)

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
        return tuple(f"LABEL_{index}" for index in range(label_count(self.config)))

    def has_head(self, task: Task) -> bool:
        """Whether the model was fine-tuned for the task: its class is the task's, and all weights of the head are there."""
        return self.head_fault(task) is None

    def head_fault(self, task: Task) -> str | None:
        """Why the model has no head for the task; None where it has one. Where the task needs none, why it is no encoder."""
        if task.pools:
            return self._body_fault(task)
        if not self.fits(task):
            if str(self.architecture).endswith("Model"):
                return "the model was not fine-tuned for the task yet."
            named = self.architecture or "model of another class"
            return f"the model is a {named}, which was made for another task than {task.name}."
        if (other := self.task_fault(task)) is not None:
            return other
        names = {plain_name(name, self.family) for name in self.tensors}
        missing = sorted(set(head_shapes(self.family, self.config, task.architecture)) - names)
        head = self.family.head_module(task.architecture) or task.head
        if not any(name.startswith(f"{head}.") for name in names):
            return "the model was not fine-tuned for the task yet."
        return f"the model's head has no {missing[0]}, which Transformers would draw at random." if missing else None

    def _body_fault(self, task: Task) -> str | None:
        """Why a task without a head cannot take the encoder: it was fine-tuned for another task."""
        named = self.architecture
        if named is None or named.endswith(BODIES):
            return None
        return f"the model is a {named}, which was made for another task than {task.name}."

    def task_fault(self, task: Task) -> str | None:
        """Why the model, whose class is the task's, was made for another task of that class; None for any other model."""
        return task.model_fault(self.config, label_count(self.config)) if self.fits(task) else None

    def fits(self, task: Task) -> bool:
        """Whether the class that config.json names is the task's; where it names none, whether the tensors are no other's."""
        if self.architecture is None:
            return not (task.reads == "all" and any(OF_FIRST_TOKEN.search(name) for name in self.tensors))
        return self.architecture.removeprefix("Pruned") in {
            f"{family.class_name}{task.architecture}" for family in FAMILIES if family.prefix == self.family.prefix
        }

    @property
    def architecture(self) -> str | None:
        """Name of the class that the folder was saved from, or None where config.json names none."""
        named = self.config.get("architectures") or ()
        return str(named[0]) if named else None

    def contents(self) -> dict[str, str]:
        """Name -> sha256 of every file that edgebert uses, and for weights of TensorFlow, how they are read."""
        read = {"tensorflow": str(TENSORFLOW_VERSION)} if self.tensorflow else {}
        return {name: hash_file(self.path / name) for name in self.files()} | read

    @property
    def config_file(self) -> str:
        """Name of the file that describes the model."""
        return self.tensorflow.config_file if self.tensorflow else "config.json"

    def files(self) -> list[str]:
        """Names of the files that edgebert uses."""
        others = [WEIGHTS_INDEX, self.config_file, *self.family.tokenizer_files, *self.more_files]
        return sorted({*self.weight_files, *(name for name in others if (self.path / name).is_file())})

    def copy_to(self, folder: Path) -> None:
        """Copies the files that edgebert uses; weights of TensorFlow become model.safetensors."""
        if self.tensorflow is None:
            return self._copy(self.files(), folder)
        self.copy_tokenizer_to(folder)
        self._copy(self.more_files, folder)
        self.tensorflow.write(folder)
        return None

    def copy_tokenizer_to(self, folder: Path) -> None:
        """Copies config.json and the tokenizer's files."""
        self._copy((self.config_file, *self.family.tokenizer_files), folder)
        if self.tensorflow:
            (folder / self.config_file).unlink()
            self.tensorflow.write_configs(folder)

    def _copy(self, names: Iterable[str], folder: Path) -> None:
        for name in names:
            if (self.path / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.path / name, folder / name)


def longest_text(config: Mapping[str, Any]) -> int | None:
    """Longest text in tokens that a tokenizer_config.json allows; None where it sets no limit, as many do with 1e30.

    Transformers reads the former name `max_len` as well.
    """
    limit = next((config[name] for name in ("model_max_length", "max_len") if config.get(name) is not None), None)
    usable = isinstance(limit, int | float) and not isinstance(limit, bool) and SHORTEST <= limit < UNLIMITED
    return int(limit) if usable and limit is not None else None


def inspect_model(path: Path, origin: Mapping[str, Any] | None = None) -> ModelFolder:
    """Reads config.json and the headers of the weight files of a folder.

    Raises:
        SourceError: the folder is not a model that edgebert can use.
        MissingPackage: its weights are TensorFlow's tf_model.h5, and h5py is not installed.
    """
    refuse_adapters(path)
    tensorflow = tensorflow_weights(path)
    if tensorflow is None and not (path / "config.json").is_file():
        raise SourceError(
            f"{path} has no config.json, so it is not a model folder.",
            hint="Name the folder that save_pretrained() wrote.",
        )
    file = path / (tensorflow.config_file if tensorflow else "config.json")
    config = tensorflow.config if tensorflow else read_json(file)
    refuse_code(file, config)
    family = find_family(config.get("model_type"))
    if family is None:
        known = ", ".join(family.model_type for family in FAMILIES)
        raise SourceError(
            f"{path} is a model of type {config.get('model_type', 'unknown')!r}; edgebert compresses encoders of these types, "
            f"plain or pruned by it: {known}.",
            hint="Name a folder whose config.json says so.",
        )
    check_config(file, config, family)
    tensors = tensorflow.tensors() if tensorflow else read_tensors(path)
    _check_tokenizer_files(path, family)
    _refuse_segments(path, family, tensors)
    refuse_foreign_names(path, family, tensors)
    refuse_pruned_heads(file, family, config, tensors)
    check_tensors(path, family, config, tensors)
    files = tensorflow.files if tensorflow else weight_files(path)
    return ModelFolder(path, config, files, frozenset(tensors), dict(origin or {"source": str(path)}), tensorflow)


def _check_tokenizer_files(path: Path, family: Family) -> None:
    """Raises SourceError if there is no tokenizer, a part of it is missing, or it wants to run code."""
    if not (path / "tokenizer.json").is_file():
        missing = [name for name in family.vocabulary_files if not (path / name).is_file()]
        if len(missing) == len(family.vocabulary_files):
            known = " or ".join(["tokenizer.json", " and ".join(family.vocabulary_files)][: 1 + bool(missing)])
            raise SourceError(f"{path} has no tokenizer ({known}).", hint=SAVE_TOKENIZER)
        if missing:
            raise SourceError(
                f"{path} has only a part of its tokenizer: {missing[0]} is missing.",
                hint="Fetch it from where the model is from, or save the tokenizer there: tokenizer.save_pretrained(...)",
            )
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (path / name).is_file():
            refuse_code(path / name, read_json(path / name))  # a bundle has a copy, which other clients read
    for name in family.tokenizer_files:
        if (path / name).is_file() and (path / name).stat().st_size > LIMIT:
            raise SourceError(f"{path / name} has more than {LIMIT >> 20} MiB, which no tokenizer needs.", hint=SAVE_TOKENIZER)


def _refuse_segments(path: Path, family: Family, tensors: Iterable[str]) -> None:
    """Raises SourceError for the table of segment ids in the weights of a family without them."""
    segments = [name for name in sorted(tensors) if "token_type_embeddings" in name]
    if segments and family.embedding.segment is None:
        raise SourceError(
            f"The weights in {path} hold {segments[0]}, but {family.title} has no segment ids.",
            hint="Its config.json belongs to another model: take the one that save_pretrained() wrote beside the weights.",
        )
