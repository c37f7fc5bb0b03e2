"""Task: what goes into a model, what comes out, how it is scored and how it is trained. Light: it runs on a device.

The training half (targets, loss, imitate) imports torch inside its functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic_core import to_json

from edgebert.errors import InputError
from edgebert.tasks.answers import PLAIN, Detail
from edgebert.tasks.answers import Answer as Answer
from edgebert.tasks.metrics import AnswerMetric, metrics_of
from edgebert.tasks.options import TaskOptions
from edgebert.tasks.output import Output as Output
from edgebert.tasks.words import NO_WORD as NO_WORD

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = npt.NDArray[Any]
Batch = dict[str, Array]
Row = Mapping[str, Any]
Kind = Literal["text", "words", "texts", "label", "labels", "tags", "number", "numbers", "answers"]
"""Kind of a column's values. text: a str. words: a list of str. texts: a list of str, each a text of its own. label: a str.
labels: a list of different str, none or several. tags: a list of str, one for each word. number: a float. numbers:
a list of float, none or several. answers: a list of {"text": str, "start": int}, a part of another column and its first
character there, -1 where the file does not say."""
LISTS: frozenset[Kind] = frozenset({"words", "texts", "labels", "tags", "numbers", "answers"})
"""Kinds whose values are lists."""
Reads = Literal["first", "all"]
"""The tokens whose last hidden states the head reads: the first alone, or all."""
TASK_OF = {
    "single_label_classification": "text-classification",
    "multi_label_classification": "multi-label-classification",
    "regression": "regression",
}
"""`problem_type` in config.json -> the task of such a model."""
IGNORED = -100
"""Target that no loss counts: of a row without a label, and of a token that has none."""


@dataclass(frozen=True)
class Column:
    """One column of the task's data."""

    name: str
    kind: Kind = "text"
    required: bool = True
    is_label: bool = False
    other_names: tuple[str, ...] = ()
    """Names that data sets often give such a column; they need no entry in the recipe's `columns`."""
    or_else: str = ""
    """Name of a column that may be there instead of this one."""
    at_will: bool = False
    """Whether who asks a model may give it or leave it out, whatever the model's own data have."""


@dataclass(frozen=True)
class Encoded:
    """One window of a tokenised row: the whole row, or where that is too long, a part of it. Not padded."""

    ids: tuple[int, ...]
    type_ids: tuple[int, ...]
    """Segment of each token, 0 or 1."""
    row: int = 0
    """Index of its row among the rows that were encoded together; the windows of a row are neighbours."""
    offsets: tuple[tuple[int, int], ...] = ()
    """Characters [start, end) of each token in its text, where the task needs them."""
    words: tuple[int, ...] = ()
    """Index of the word that each token belongs to, -1 for special tokens, where the task needs them."""
    continued: int = NO_WORD
    """Index of the word that the window goes on with and that an earlier window began; -1 where there is none."""
    texts: tuple[int, ...] = ()
    """Index of the text of its row that each token belongs to, -1 for special tokens, where the task needs them."""
    cut: bool = False
    """Whether tokens of its row were left out, because the row has more than fit and the task reads no second window."""
    part: int = 0
    """Index of what it shows of a row that has several texts to read: of a passage, or of a candidate."""
    read: tuple[int, ...] | None = None
    """Indices of the tokens whose outputs are read, where the task reads some of them alone; None: all."""
    right: tuple[int, ...] = ()
    """Ids that stood in these places before they were masked; none where the text itself has the masks."""

    def __len__(self) -> int:
        return len(self.ids)


Text = str | tuple[str, ...]
"""What people ask about: a text whose columns a tab separates where the model takes several, or the columns as a tuple."""
Outputs = Mapping[str, Array]
"""Name -> output for one window, without the batch's axis and without padding."""


class Task(ABC):
    """One kind of problem, with its options. It never changes; the registry holds one of each with the default options."""

    name: ClassVar[str]
    options_type: ClassVar[type[TaskOptions]] = TaskOptions
    columns: tuple[Column, ...]
    optimum_task: ClassVar[str]
    """The task's name in optimum's TasksManager, which knows the Auto class."""
    head: ClassVar[str]
    """Name of the head's module, which only a model fine-tuned for such a task has."""
    architecture: ClassVar[str]
    """Ending of the class name that config.json gives such a model."""
    usual_length: ClassVar[int | None] = None
    """Longest input in tokens where the recipe gives none; None for what the model allows."""
    problem_type: ClassVar[str | None] = None
    """`problem_type` in config.json of a model with such a head, where several tasks have its class."""
    asks_for_tokens: ClassVar[bool] = False
    """Whether right answers are tokens of the model's own vocabulary, so that another vocabulary asks other questions."""
    has_labels: ClassVar[bool] = True
    """Whether the head has an output for each label of the data."""
    head_rows: int = 0
    """Outputs of a new head without labels; 0 where it has labels, or no number that a config names."""
    no_new_head: ClassVar[str] = ""
    """Why no training here makes a head for it; empty where finetune does."""
    in_pairs: ClassVar[bool] = False
    """Whether a row may have two texts, each a window of its own with an output of its own, which the loss compares."""
    pools: ClassVar[bool] = False
    """Whether the model has no head, and its outputs are vectors pooled of an encoder's hidden states."""
    also_exported: ClassVar[tuple[str, ...]] = ()
    """Names of what graphs give beside the task's outputs, for other clients."""
    outputs: ClassVar[tuple[Output, ...]]
    reads: ClassVar[Reads]
    prediction: ClassVar[str]
    """Kind of its predictions, by which it has its metrics."""
    own_metrics: tuple[AnswerMetric, ...] = ()
    """Metrics that a recipe names itself."""

    def __init__(self, options: TaskOptions | None = None) -> None:
        """Takes options of the task's own type; None: the defaults."""
        self.options = options or self.options_type()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and (self.name, self.options) == (other.name, other.options)

    def __hash__(self) -> int:
        return hash((self.name, self.options.key))

    def configured(self, options: TaskOptions | Mapping[str, Any]) -> Self:
        """The task with other options.

        Args:
            options: all of them, or as JSON values those that are not at their defaults.

        Raises:
            ValueError: they are none of this task's.
        """
        if not isinstance(options, TaskOptions):
            options = self.options_type.model_validate_json(to_json(dict(options)))
        return self if options == self.options else type(self)(options).with_metrics(self.own_metrics)

    def with_metrics(self, own: tuple[AnswerMetric, ...]) -> Self:
        """The task with metrics of the user's beside its own; they are no part of what it is."""
        task = copy(self)
        task.own_metrics = own
        return task

    def of_model(self, config: Mapping[str, Any]) -> Self:
        """The task with the options that a model decides where the recipe says nothing of them.

        Args:
            config: the content of its config.json.
        """
        return self

    def config_fields(self) -> Mapping[str, Any]:
        """Fields that a bundle's config.json has for other clients, to read the outputs as this task does."""
        return {}

    @property
    def key(self) -> str:
        """The task in keys of results: its name, and the options that are not at their defaults."""
        return f"{self.name} {self.options.key}".strip()

    @property
    def metrics(self) -> tuple[AnswerMetric, ...]:
        """Its metrics, then the recipe's own; the first decides where one has to."""
        return metrics_of(self.prediction) + self.own_metrics

    @property
    def tunes(self) -> bool:
        """Whether a run chooses options of the task, as thresholds, by the answers of FP32 on the rows that choose."""
        return False

    def tuned(self, predictions: Sequence[Any], references: Sequence[Any]) -> Self:
        """The task with the options that suit these predictions of FP32 best, where it `tunes`."""
        return self

    @property
    def of_tokens(self) -> bool:
        """Whether a model is taught by values for each token, and not for each window."""
        return self.outputs[0].of_tokens

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of its outputs, in order."""
        return tuple(output.name for output in self.outputs)

    @property
    def graph_outputs(self) -> tuple[str, ...]:
        """Names of all outputs of its graphs, in order."""
        return (*self.also_exported, *self.output_names)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the columns that go into the model."""
        return tuple(column.name for column in self.columns if not column.is_label)

    @property
    def label_column(self) -> Column | None:
        """The column with the right answers; None where a task has none."""
        return next((column for column in self.columns if column.is_label), None)

    @abstractmethod
    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row], max_length: int) -> list[Encoded]:
        """Tokenises rows, in order, as windows of at most `max_length` tokens."""

    @abstractmethod
    def decode(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Any]:
        """Outputs of all windows of some rows -> one prediction for each row, as JSON values.

        Args:
            outputs: for each window its outputs.
            encoded: the windows, as `encode` made them of the rows.
            rows: the rows.
            labels: names of the model's labels.
        """

    @abstractmethod
    def answer(
        self,
        outputs: Sequence[Outputs],
        encoded: Sequence[Encoded],
        rows: Sequence[Row],
        labels: Sequence[str],
        detail: Detail = PLAIN,
    ) -> list[Answer]:
        """As `decode`, but for people, and with as much beside it as `detail` says."""

    def worded(self, answers: Sequence[Answer], tokenizer: Tokenizer) -> Sequence[Answer]:
        """The answers with the texts that only a tokenizer knows, where they hold tokens."""
        return answers

    def golden_part(self, outputs: Outputs) -> Outputs:
        """What a bundle keeps of a window's outputs to compare others with: all, where that is no matter of megabytes."""
        return outputs

    @abstractmethod
    def reference(self, row: Row, indices: Mapping[str, int], labels: Sequence[str]) -> Any:
        """The right answer of a labelled row, in the form of a prediction.

        Args:
            indices: label of the data set -> its index among the model's labels.
        """

    def agrees(self, prediction: Any, other: Any) -> bool:
        """Whether two models' predictions for one row are the same to those who read them."""
        return bool(prediction == other)

    @abstractmethod
    def guesses(self, references: Sequence[Any]) -> list[Any]:
        """Predictions that need no model: the best answer, always the same, to rows with these right answers, one or more. A
        model that scores no better is worth nothing."""

    @abstractmethod
    def rows_from(self, sentences: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """Rows made of plain sentences, with the columns that the data has, for a bundle's self-test."""

    @abstractmethod
    def targets(self, encoded: Encoded, row: Row, indices: Mapping[str, int]) -> Array:
        """What the loss compares the outputs of a window with, of one shape for all windows, or with an axis of tokens first
        where the task is `of_tokens`: integers, IGNORED where there is none, or floats, NaN where there is none."""

    def check_row(self, row: Row) -> None:  # noqa: B027 - most tasks have nothing to check
        """Raises ValueError with the fault of a row whose columns contradict each other."""

    def check_label(self, label: str) -> None:  # noqa: B027 - most tasks take any label
        """Raises ValueError with the fault of a label, or tag, that cannot be one of this task."""

    def check_rows(self, references: Sequence[Any]) -> None:  # noqa: B027 - most tasks have nothing to check
        """Raises ValueError with the fault of a set of right answers that can judge no model, to follow the set's name."""

    def model_fault(self, config: Mapping[str, Any], outputs: int) -> str | None:
        """Why a model of the task's class was made for another task; None where it was not.

        Args:
            config: the content of its config.json.
            outputs: number of its outputs.
        """
        kind = config.get("problem_type")
        if self.problem_type and isinstance(kind, str) and kind != self.problem_type:
            named = f"; task: {TASK_OF[kind]}" if kind in TASK_OF else ""
            return f"the model was trained for another task than {self.name}: its problem_type is {kind}{named}"
        return None

    def check_model_labels(self, labels: Sequence[str]) -> None:
        """Raises ValueError with the fault of the labels: answers are names, so two outputs of one name would be equal."""
        twice = next((label for label, count in Counter(labels).items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"two of the model's outputs have the label {twice!r}, and answers would not tell them apart")

    def row_of(self, text: Text, columns: Collection[str] | None = None) -> Row:
        """One line of input, or a tuple of texts, as a row.

        Args:
            text: a tab separates its columns where there are several; a tab in a single text is a space.
            columns: those that the model was made for; by default all texts of the task.

        Raises:
            InputError: it has more columns than that.
        """
        names = [item.name for item in self.columns if item.kind == "text" and (columns is None or item.name in columns)]
        parts = text if isinstance(text, tuple) else text.split("\t") if len(names) > 1 else [text]
        if len(parts) > len(names):
            meant = f"A tab separates {' and '.join(names)}; write" if len(names) > 1 else "Write"
            hint = f"{meant} a space where no such separation is meant."
            where = "" if isinstance(text, tuple) else " between tabs"
            raise InputError(f"A text has {len(parts)} parts{where}, but {self.name} takes {len(names)} here.", hint=hint)
        return dict(zip(names, parts, strict=False))

    def serving_note(self) -> str | None:
        """What differs between the texts that a run judges and those that a bundle is asked by default; None: nothing."""
        return None

    def combined(self, outputs: Mapping[str, Any]) -> Any:
        """The outputs that teach and learn, as one tensor of shape (batch, ...) or, for a task `of_tokens`, (batch, tokens,
        ...): the first output, where a task does not say otherwise.

        Args:
            outputs: name -> tensor, of shape (batch, ...).
        """
        return outputs[self.outputs[0].name]

    def loss(self, logits: Any, targets: Any, reduction: Literal["mean", "sum"] = "mean") -> Any:
        """Cross-entropy, a scalar tensor; IGNORED targets do not count.

        Args:
            logits: what `combined` makes of a batch's outputs.
            targets: integers of shape (batch, ...), without the last axis of the logits.
        """
        from torch.nn.functional import cross_entropy

        logits = logits.float()
        if not (targets != IGNORED).any():  # a mean over no targets would be NaN
            return logits.sum() * 0.0
        return cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, reduction=reduction)

    def imitate(self, student: Any, teacher: Any, mask: Any, temperature: float) -> Any:
        """Loss between the outputs of student and teacher: soft labels for each example, or for each token of the mask.

        Args:
            student, teacher: as `combined` makes them: logits of shape (batch, labels) or (batch, tokens, labels).
            mask: bool, shape (batch, tokens): the tokens that are compared.
        """
        from edgebert.tasks.soft_labels import soft_labels

        if not self.of_tokens:
            return soft_labels(student, teacher, temperature)
        if not mask.any():
            return student.sum() * 0.0
        return soft_labels(student[mask], teacher[mask], temperature)

    def pseudo_targets(self, logits: Any, mask: Any) -> Any:
        """Targets made of a teacher's outputs, for rows without a label: its most probable label, IGNORED beyond the mask.

        Args:
            logits: as `combined` makes them, of shape (batch, ...).
            mask: bool, shape (batch, tokens): the tokens that are no padding.
        """
        best = logits.argmax(dim=-1)
        return best.masked_fill(~mask, IGNORED) if self.of_tokens else best


def without_tabs(text: str) -> str:
    """The text as every model sees it, with a space for each tab: lines of input cannot hold a tab within a text, and a
    vocabulary may tell the two apart."""
    return text.replace("\t", " ")


def cut_at(tokenizer: Tokenizer, max_length: int) -> None:
    """Sets a tokenizer to cut texts on the side that its file names, the longer of a pair first, and not to pad them."""
    set_truncation(tokenizer, max_length, direction=(tokenizer.truncation or {}).get("direction", "right"))


def cut_into_windows(tokenizer: Tokenizer, max_length: int, stride: int) -> None:
    """Sets a tokenizer to cut texts into windows from left to right, of which two share `stride` tokens, and not to pad."""
    set_truncation(tokenizer, max_length, stride=stride)


def set_truncation(
    tokenizer: Tokenizer,
    max_length: int,
    *,
    stride: int = 0,
    direction: Literal["left", "right"] = "right",
    strategy: Literal["longest_first", "only_second"] = "longest_first",
) -> None:
    """Sets how a tokenizer cuts texts, and that it does not pad. One that is set so already stays as it is: while one thread
    changes it, tokenizers refuses the others."""
    if tokenizer.padding is not None:
        tokenizer.no_padding()
    truncation = {"max_length": max_length, "stride": stride, "strategy": strategy, "direction": direction}
    if tokenizer.truncation != truncation:
        tokenizer.enable_truncation(max_length, stride=stride, strategy=strategy, direction=direction)


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


def padded_targets(targets: Sequence[Array], length: int, *, of_tokens: bool) -> Array:
    """Targets of a batch as one array of shape (examples, ...), or (examples, length, ...) with padding that does not count.

    Args:
        of_tokens: whether their first axis is that of the tokens.
    """
    if not of_tokens:
        return np.stack(list(targets))
    first = targets[0]
    missing = np.nan if first.dtype.kind == "f" else IGNORED
    padded = np.full((len(targets), length, *first.shape[1:]), missing, dtype=first.dtype)
    for row, target in enumerate(targets):
        padded[row, : len(target)] = target
    return padded


def is_target(targets: Any) -> Any:
    """Which values of a tensor of targets count: integers that are not IGNORED, floats that are not NaN. A bool tensor."""
    return ~targets.isnan() if targets.is_floating_point() else targets != IGNORED


def split_outputs(task: Task, outputs: Mapping[str, Array], encoded: Sequence[Encoded]) -> list[dict[str, Array]]:
    """A batch's outputs as those of each of its windows, without padding, and of the tokens that are read alone.

    Args:
        outputs: name -> array of shape (batch, ...); a batch may have been filled up beyond the windows. Those that are not the
            task's are left out.
    """
    outputs = {name: value for name, value in outputs.items() if name not in task.also_exported}
    of_tokens = {output.name for output in task.outputs if output.of_tokens}
    return [
        {name: _of_read(value[row], item) if name in of_tokens else value[row] for name, value in outputs.items()}
        for row, item in enumerate(encoded)
    ]


def _of_read(values: Array, item: Encoded) -> Array:
    """The rows of the tokens that a task reads, of an output of shape (tokens, ...)."""
    return values[: len(item)] if item.read is None else values[list(item.read)]
