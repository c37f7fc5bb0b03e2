"""Examples: the rows that a model learns from, labelled ones of `data.train` first, then those of `data.transfer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from edgebert.data.prepared import PreparedData, label_indices
from edgebert.runtimes.serving import Serving
from edgebert.tasks.base import Encoded, collate

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNLABELLED = -1
ROLES = ("train", "transfer")


@dataclass(frozen=True)
class Examples:
    """Rows of one or more data sets, numbered consecutively, and tokenised for a model when they are read."""

    sets: tuple[PreparedData, ...]
    serving: Serving

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    @cached_property
    def targets(self) -> list[int]:
        """Index of each row's label among the model's labels; UNLABELLED for rows of `transfer`."""
        indices: list[int] = []
        for data in self.sets:
            labelled = data.role == "train"
            indices += label_indices(data, self.serving.task, self.serving.labels) if labelled else [UNLABELLED] * len(data)
        return indices

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.serving.open_tokenizer()

    @cached_property
    def lengths(self) -> list[int]:
        """Number of tokens of each row."""
        return [len(item) for data in self.sets for rows in data.blocks() for item in self.serving.encode(self.tokenizer, rows)]

    def encoded(self, indices: Sequence[int]) -> list[Encoded]:
        """The rows of these indices, tokenised, in that order."""
        rows: dict[int, Any] = {}
        start = 0
        for data in self.sets:
            wanted = [index for index in indices if start <= index < start + len(data)]
            rows |= dict(zip(wanted, data.rows([index - start for index in wanted]), strict=True)) if wanted else {}
            start += len(data)
        return self.serving.encode(self.tokenizer, [rows[index] for index in indices])

    def batch(self, indices: Sequence[int], *, coarse: bool = False) -> dict[str, Any]:
        """The rows of these indices as torch tensors, with `labels`.

        Args:
            coarse: pad to the next of a few lengths (`coarse_length`) instead of the longest row.
        """
        import torch

        encoded = self.encoded(indices)
        length = max(map(len, encoded))
        if coarse:
            length = max(length, min(coarse_length(length), self.serving.max_length))
        arrays = collate(encoded, length=length, pad_id=self.serving.pad_id)
        tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
        return {**tensors, "labels": torch.tensor([self.targets[index] for index in indices])}

    def sample(self, count: int, seed: int) -> list[int]:
        """Indices of `count` different rows (all where there are fewer), shortest first to save padding."""
        chosen = np.random.default_rng(seed).choice(len(self), size=min(count, len(self)), replace=False)
        return sorted((int(index) for index in chosen), key=lambda index: (self.lengths[index], index))


def coarse_length(length: int) -> int:
    """The next of 4, 8, ... 32, 40, 48, 56, 64, 80, ...: multiples of 4, then four lengths to each doubling.

    In bf16 on a CPU, oneDNN compiles a kernel for each shape of a matrix product and keeps the last 1,024 of them. A BERT
    with sizes of its own in every layer has about a hundred products, so that with every length a training compiled
    nearly all of its kernels again and again, which took more time than the products.
    """
    step = max(4, 1 << max(0, (length - 1).bit_length() - 3))
    return -(-length // step) * step
