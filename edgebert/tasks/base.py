"""Task: what goes into the model, what comes out, and how it is scored. Light: it runs on a device.

The training half (which AutoModel, which loss) is named here as text and resolved by the stages that need torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgebert.errors import InputError
from edgebert.tasks.metric import ANSWER_METRICS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = npt.NDArray[Any]
Batch = dict[str, Array]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One column of the task's data."""

    name: str
    required: bool = True
    is_label: bool = False


@dataclass(frozen=True)
class Encoded:
    """One tokenised example: token ids and segment ids, both of its own length, not padded."""

    ids: tuple[int, ...]
    type_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Answer:
    """A prediction as a person reads it."""

    label: str
    score: float


class Task(ABC):
    """One kind of problem. Subclasses are stateless; the registry holds one of each."""

    name: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    optimum_task: ClassVar[str]
    """The task's name in optimum's TasksManager, which knows the Auto class."""
    head: ClassVar[str]
    """Name of the tensor that only a model fine-tuned for this task has."""
    architecture: ClassVar[str]
    """Ending of the class name that config.json gives such a model."""
    outputs: ClassVar[tuple[str, ...]]
    metrics: ClassVar[tuple[str, ...]]
    """Names of `ANSWER_METRICS`; the first decides where one has to."""

    @abstractmethod
    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row], max_length: int) -> list[Encoded]:
        """Tokenises rows, each cut to `max_length` tokens."""

    @abstractmethod
    def label_index(self, label: str, labels: Sequence[str]) -> int | None:
        """Index of a data set's label among the model's labels, or None when it is not one of them."""

    @abstractmethod
    def predict(self, outputs: Mapping[str, Array]) -> Array:
        """Model outputs of a batch -> one prediction for each example, as integers."""

    @abstractmethod
    def answer(self, outputs: Mapping[str, Array], labels: Sequence[str]) -> list[Answer]:
        """Model outputs of a batch -> one answer for each example, for people."""

    @abstractmethod
    def rows_from(self, sentences: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """Rows made of plain sentences, with the columns that the data has, for a bundle's self-test."""

    def score(self, metric: str, predictions: Array, references: Array) -> float:
        """The value of one of `metrics` over all examples. Both arrays have shape (examples,)."""
        return ANSWER_METRICS[metric].score(predictions, references)

    def row_of(self, text: str) -> Row:
        """One line of input as a row; a tab separates its columns.

        Raises:
            InputError: it has more columns than the task.
        """
        parts = text.split("\t")
        names = [column.name for column in self.columns if not column.is_label]
        if len(parts) > len(names):
            hint = f"A tab separates {' and '.join(names)}; write a space where no such separation is meant."
            raise InputError(f"A text has {len(parts)} parts between tabs, but {self.name} takes {len(names)}.", hint=hint)
        return dict(zip(names, parts, strict=False))


def cut_at(tokenizer: Tokenizer, max_length: int) -> None:
    """Sets a tokenizer to cut texts, the longer of a pair first, and not to pad them. One that is set so already stays as
    it is: while one thread changes it, tokenizers refuses the others."""
    if tokenizer.padding is not None:
        tokenizer.no_padding()
    truncation = {"max_length": max_length, "stride": 0, "strategy": "longest_first", "direction": "right"}
    if tokenizer.truncation != truncation:
        tokenizer.enable_truncation(max_length, strategy="longest_first")


def collate(encoded: Sequence[Encoded], *, length: int, pad_id: int) -> Batch:
    """Pads examples to `length` tokens: int64 arrays of shape (examples, length), named as BERT names its inputs."""
    shape = (len(encoded), length)
    ids = np.full(shape, pad_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    types = np.zeros(shape, dtype=np.int64)
    for row, example in enumerate(encoded):
        ids[row, : len(example)] = example.ids
        mask[row, : len(example)] = 1
        types[row, : len(example)] = example.type_ids
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
