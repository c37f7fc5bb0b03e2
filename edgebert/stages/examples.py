"""Examples: the rows that a model learns from, labelled ones of `data.train` first, then those of `data.transfer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from edgebert.data.labels import indices_of_labels
from edgebert.data.prepared import PreparedData
from edgebert.errors import StageError
from edgebert.runtimes.serving import Serving
from edgebert.tasks.base import NO_WORD, Encoded, Row, collate, padded_targets

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ROLES = ("train", "transfer")


@dataclass(frozen=True)
class Window:
    """One example: a row, or a part of a row that is too long for one."""

    row: int
    """Index of its row, over all data sets."""
    number: int
    """Its number among the windows of the row, from 0."""
    tokens: int


@dataclass(frozen=True)
class Examples:
    """Rows of one or more data sets, tokenised for a model when they are read. An example is a row, or a window of a long row;
    examples are numbered consecutively."""

    sets: tuple[PreparedData, ...]
    serving: Serving

    def __len__(self) -> int:
        return len(self.windows)

    @cached_property
    def windows(self) -> list[Window]:
        """All examples, in order."""
        found: list[Window] = []
        start = 0
        for data in self.sets:
            for rows in data.blocks():
                found += _windows(self.serving.encode(self.tokenizer, rows), start)
                start += len(rows)
        return found

    @cached_property
    def of_rows(self) -> list[list[int]]:
        """The examples of each row, for losses that compare the windows of a row."""
        rows: dict[int, list[int]] = {}
        for index, window in enumerate(self.windows):
            rows.setdefault(window.row, []).append(index)
        return list(rows.values())

    @property
    def labelled(self) -> bool:
        """Whether every example has a label."""
        return all(data.role == "train" for data in self.sets)

    @cached_property
    def label_indices(self) -> dict[str, int]:
        """Label of a labelled data set -> its index among the model's labels; and for each output of the model a key that no
        label has, so that a task can count the outputs."""
        labelled = [data for data in self.sets if data.role == "train"]
        found = [indices_of_labels(data, self.serving.task, self.serving.labels) for data in labelled]
        outputs = {f"\0{index}": index for index in range(len(self.serving.labels))}
        return outputs | {label: index for indices in found for label, index in indices.items()}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.serving.open_tokenizer()

    @cached_property
    def lengths(self) -> list[int]:
        """Number of tokens of each example."""
        return [window.tokens for window in self.windows]

    def require_same_windows(self, other: Examples, name: str) -> None:
        """Checks that another model's examples are numbered alike, for a task that reads long rows in windows.

        Args:
            other: the same rows, tokenised for the model of that name.

        Raises:
            StageError: its tokenizer makes other windows of a row, so that examples would not correspond.
        """
        if not self.serving.task.of_tokens or self.serving.equals(other.serving):
            return
        ours, theirs = ([(window.row, window.number) for window in item.windows] for item in (self, other))
        if ours != theirs:
            raise StageError(
                f"The tokenizer of {name} makes other windows of long rows than the student's ({len(theirs)}, {len(ours)}).",
                hint="Raise task.max_length so that no row needs several windows, or take a teacher with the same tokenizer.",
            )

    def encoded(self, indices: Sequence[int]) -> list[Encoded]:
        """The examples of these indices, tokenised, in that order."""
        return [encoded for encoded, _ in self._read(indices)]

    def _read(self, indices: Sequence[int]) -> list[tuple[Encoded, Row]]:
        """The examples of these indices with their rows."""
        chosen = [self.windows[index] for index in indices]
        numbers = list(dict.fromkeys(window.row for window in chosen))
        rows = self._rows(numbers)
        groups: list[list[Encoded]] = [[] for _ in numbers]
        for item in self.serving.encode(self.tokenizer, rows):
            groups[item.row].append(item)
        at = {number: index for index, number in enumerate(numbers)}
        return [(groups[at[window.row]][window.number], rows[at[window.row]]) for window in chosen]

    def _rows(self, numbers: Sequence[int]) -> list[Row]:
        """The rows of these indices over all data sets, in that order."""
        rows: dict[int, Row] = {}
        start = 0
        for data in self.sets:
            wanted = [number for number in numbers if start <= number < start + len(data)]
            rows |= dict(zip(wanted, data.rows([number - start for number in wanted]), strict=True)) if wanted else {}
            start += len(data)
        return [rows[number] for number in numbers]

    def batch(self, indices: Sequence[int], *, coarse: bool = False) -> dict[str, Any]:
        """The examples of these indices as torch tensors, with their targets as `labels`.

        Args:
            coarse: pad to the next of a few lengths (`coarse_length`) instead of the longest example.
        """
        import torch

        task, read = self.serving.task, self._read(indices)
        length = max(len(encoded) for encoded, _ in read)
        if coarse:
            length = max(length, min(coarse_length(length), self.serving.max_length))
        arrays = collate([encoded for encoded, _ in read], length=length, pad_id=self.serving.pad_id)
        targets = [task.targets(encoded, row, self.label_indices) for encoded, row in read]
        arrays["labels"] = padded_targets(targets, length, of_tokens=task.of_tokens)
        return {name: torch.from_numpy(value) for name, value in arrays.items()}

    def sample(self, count: int, seed: int) -> list[int]:
        """Indices of `count` different examples (all where there are fewer), shortest first to save padding."""
        chosen = np.random.default_rng(seed).choice(len(self), size=min(count, len(self)), replace=False)
        return sorted((int(index) for index in chosen), key=lambda index: (self.lengths[index], index))


def same_tokens(ours: Sequence[Encoded], theirs: Sequence[Encoded]) -> list[bool]:
    """For each example whether two tokenizers cut it at the same characters, so that its tokens correspond one by one.

    Only tasks that label tokens keep the characters of tokens; for others all examples count as the same.
    """
    return [one.offsets == other.offsets for one, other in zip(ours, theirs, strict=True)]


def first_tokens(window: Encoded) -> dict[int, int]:
    """Word that begins in a window -> its first token there."""
    firsts: dict[int, int] = {}
    for token, word in enumerate(window.words):
        if word not in (NO_WORD, window.continued):
            firsts.setdefault(word, token)
    return firsts


def _windows(encoded: Sequence[Encoded], start: int) -> list[Window]:
    """The examples of a block of rows, of which the first has the index `start`."""
    found: list[Window] = []
    for item in encoded:
        row = start + item.row
        number = found[-1].number + 1 if found and found[-1].row == row else 0
        found.append(Window(row, number, len(item)))
    return found


def coarse_length(length: int) -> int:
    """The next of 4, 8, ... 32, 40, 48, 56, 64, 80, ...: multiples of 4, then four lengths to each doubling.

    In bf16 on a CPU, oneDNN compiles a kernel for each shape of a matrix product and keeps the last 1,024 of them. A BERT
    with sizes of its own in every layer has about a hundred products, so that with every length a training compiled
    nearly all of its kernels again and again, which took more time than the products.
    """
    step = max(4, 1 << max(0, (length - 1).bit_length() - 3))
    return -(-length // step) * step
