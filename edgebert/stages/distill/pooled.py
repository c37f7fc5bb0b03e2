"""Pooled states: one vector a text, which two models can compare whose tokenizers cut it into other tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgebert.tasks.base import Task

if TYPE_CHECKING:
    import torch

POOLED, HIDDEN = "pooled-", "hidden-"
"""Starts of the names of a layer's pooled state, and of its hidden states in `edgebert.models.capture`."""


def captured_names(names: Sequence[str]) -> tuple[str, ...]:
    """What has to be captured for outputs of these names."""
    return tuple(dict.fromkeys(captured_name(name) for name in names))


def captured_name(name: str) -> str:
    """The name in `edgebert.models.capture` that an output is made of."""
    return HIDDEN + name.removeprefix(POOLED) if name.startswith(POOLED) else name


def with_pooled(
    names: Sequence[str], inside: Mapping[str, torch.Tensor], mask: torch.Tensor, task: Task
) -> dict[str, torch.Tensor]:
    """Name -> output: captured tensors as they are, of shape (batch, length, width), or pooled, of shape (batch, width)."""
    return {
        name: pooled(inside[captured_name(name)], mask, task) if name.startswith(POOLED) else inside[name] for name in names
    }


def pooled(states: torch.Tensor, mask: torch.Tensor, task: Task) -> torch.Tensor:
    """The state that a head reads: that of the first token, or for heads that read all tokens, their mean.

    Args:
        states: shape (batch, length, width).
        mask: 1 for tokens, 0 for padding; shape (batch, length).
    """
    if task.reads == "first":
        return states[:, 0]
    weights = mask[:, :, None].to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def same_pieces(ours: Path, theirs: Path) -> bool:
    """Whether two tokenizer.json cut every text into the same tokens with the same ids, by what they say."""
    return _pieces(ours) == _pieces(theirs)


def _pieces(file: Path) -> list[object]:
    content = json.loads(file.read_text(encoding="utf-8"))
    return [content.get(name) for name in ("normalizer", "pre_tokenizer", "model", "added_tokens", "post_processor")]
