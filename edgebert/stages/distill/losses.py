"""losses: the losses of distillation as functions of tensors, the pairs of layers that they compare, and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from edgebert.errors import StageError
from edgebert.models.capture import PROJECTIONS, captured, width_of
from edgebert.models.load import run_model
from edgebert.models.surgery import shape_of
from edgebert.stages.distill.output_blocks import LOGITS
from edgebert.stages.distill.pooled import HIDDEN, POOLED, captured_name, captured_names, with_pooled
from edgebert.stages.distill.settings import LayerMap, Objective
from edgebert.tasks.base import Task, is_target


def hidden_states(student: torch.Tensor, teacher: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Mean squared difference over the tokens in the mask (FitNets, Romero et al. 2015; TinyBERT, arXiv 1909.10351).

    Args:
        student, teacher: shape (batch, length, width), of one width: a learned map comes before this.
        tokens: bool, shape (batch, length).
    """
    if not tokens.any():
        return student.sum() * 0.0
    return functional.mse_loss(student[tokens].float(), teacher[tokens].float())


def relations(student: torch.Tensor, teacher: torch.Tensor, tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """KL(teacher || student) of self-relations, mean over heads and tokens (MiniLMv2, arXiv 2012.15828, eq. 5-7), in FP32.

    The vectors (queries, keys or values of a layer, all heads in a row) are split anew into `heads` relation heads, so that
    student and teacher need not have the same number of heads, nor the same width; a relation is the softmax over tokens
    of the scaled dot products.

    Args:
        student, teacher: shape (batch, length, width); each width a multiple of `heads`.
        tokens: bool, shape (batch, length).
        heads: relation heads.
    """
    if not tokens.any():
        return student.sum() * 0.0
    with torch.autocast(student.device.type, enabled=False):  # it would take the dot products back to bf16
        relation, expected = _relation(student.float(), tokens, heads), _relation(teacher.float(), tokens, heads)
    divergence = (expected.exp() * (expected - relation)).sum(dim=-1)  # (batch, heads, length)
    rows = tokens[:, None, :].expand_as(divergence)
    return divergence[rows].mean()


def _relation(vectors: torch.Tensor, tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """Log-softmax of scaled dot products, shape (batch, heads, length, length). Padding gets -1e4: no weight, but finite."""
    batch, length, width = vectors.shape
    split = vectors.reshape(batch, length, heads, width // heads).transpose(1, 2)
    scores = split @ split.transpose(2, 3) / (width // heads) ** 0.5
    bounded: torch.Tensor = scores.masked_fill(~tokens[:, None, None, :], -1e4)
    return bounded.log_softmax(dim=-1)


def layer_pairs(layer_map: LayerMap | tuple[tuple[int, int], ...], student: Any, teacher: Any) -> list[tuple[int, int]]:
    """Pairs of layers (student, teacher), counted from 1.

    Raises:
        StageError: a pair names a layer that does not exist.
    """
    ours, theirs = shape_of(student).layers, shape_of(teacher).layers
    if layer_map == "last":
        return [(ours, theirs)]
    if layer_map == "uniform":
        return [(layer, max(1, round(layer * theirs / ours))) for layer in range(1, ours + 1)]
    if layer_map == "kept":
        (sources, depth), (teacher_sources, teacher_depth) = _sources(student), _sources(teacher)
        if depth == teacher_depth and set(sources) <= set(teacher_sources):  # the teacher may itself be pruned
            return [(layer, teacher_sources.index(index) + 1) for layer, index in enumerate(sources, start=1)]
        return [(layer, max(1, round((index + 1) * theirs / depth))) for layer, index in enumerate(sources, start=1)]
    for pair in layer_map:
        if pair[0] > ours or pair[1] > theirs:
            raise StageError(
                f"layer_map: {list(pair)} names a layer that is not there; the student has {ours}, the teacher {theirs}.",
                hint="Name layers from 1 up to that, or take `kept`.",
            )
    return list(layer_map)


def _sources(model: Any) -> tuple[list[int], int]:
    """Index of each of a model's layers in the BERT that it was cut from, and that BERT's number of layers."""
    layers = shape_of(model).layers
    indices = list(getattr(model.config, "source_layers", ())) or list(range(layers))
    return indices, getattr(model.config, "source_num_hidden_layers", 0) or layers


@dataclass(frozen=True)
class Pairing:
    """Pairs of (student, teacher) tensors that a loss compares, by their names in `edgebert.models.capture`."""

    hidden: tuple[tuple[str, str], ...]
    relations: tuple[tuple[str, str], ...]

    @property
    def student(self) -> tuple[str, ...]:
        """Names to capture in the student."""
        return tuple(dict.fromkeys(pair[0] for pair in (*self.hidden, *self.relations)))

    @property
    def teacher(self) -> tuple[str, ...]:
        """Names to capture in the teacher."""
        return tuple(dict.fromkeys(pair[1] for pair in (*self.hidden, *self.relations)))


def pairing(settings: Objective, student: Any, teacher: Any, *, pooled: bool = False) -> Pairing:
    """The hidden states of every mapped layer, and the relations of the last mapped layer alone, as in MiniLMv2.

    Args:
        pooled: compare one state a text, because their tokens do not correspond; there are no relations then.
    """
    pairs = layer_pairs(settings.layer_map, student, teacher)
    kind = POOLED if pooled else HIDDEN
    hidden = tuple((f"{kind}{ours}", f"{kind}{theirs}") for ours, theirs in pairs) if settings.hidden else ()
    if pooled:
        return Pairing(hidden, ())
    last = pairs[-1]
    related = tuple((f"{kind}-{last[0]}", f"{kind}-{last[1]}") for kind in PROJECTIONS) if settings.relations else ()
    return Pairing(hidden, related)


class Learner(nn.Module):
    """The student with learned maps from its widths to the teacher's, which are dropped after training."""

    def __init__(self, student: Any, teacher: Any, paired: Pairing, settings: Objective, task: Task) -> None:
        super().__init__()
        self.student = student
        self.task = task
        self.paired = paired
        self.maps = nn.ModuleDict()
        for ours, theirs in paired.hidden:
            here, there = width_of(student, captured_name(ours)), width_of(teacher, captured_name(theirs))
            apart = here != there or ours.startswith(POOLED)  # two models that never shared weights
            if settings.hidden_map == "learned" or (settings.hidden_map == "auto" and apart):
                self.maps[ours] = nn.Linear(here, there, bias=False)

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """The student's logits and captured tensors, the latter mapped to the teacher's width."""
        with captured(self.student, captured_names(self.paired.student)) as inside:
            logits = self.task.combined(run_model(self.student, batch))
        found = with_pooled(self.paired.student, inside, batch["attention_mask"], self.task)
        mapped = {name: self.maps[name](value) if name in self.maps else value for name, value in found.items()}
        return {LOGITS: logits, **mapped}


def loss(
    settings: Objective,
    task: Task,
    paired: Pairing,
    outputs: Mapping[str, torch.Tensor],
    expected: Mapping[str, Sequence[torch.Tensor]],
    batch: Mapping[str, torch.Tensor],
    targets: torch.Tensor,
) -> torch.Tensor:
    """Weighted sum of the losses of one batch.

    Args:
        outputs: outputs of `Learner`.
        expected: the teacher's outputs, one tensor for each example. Where teacher and student have different numbers of
            tokens (another vocabulary), the example is left out of the losses that compare tokens.
        targets: the task's targets of the batch; those that do not count (`is_target`) are of rows without a label.
    """
    total = outputs[LOGITS].sum() * 0.0
    mask = batch["attention_mask"].bool()
    if settings.soft:
        logits, tokens = _logits(task, expected[LOGITS], mask)
        total = total + settings.soft * task.imitate(outputs[LOGITS], logits, tokens, settings.temperature)
    if settings.hard and bool(is_target(targets).any()):
        total = total + settings.hard * task.loss(outputs[LOGITS], targets)
    for ours, theirs in paired.hidden:
        weight = settings.hidden / len(paired.hidden)
        if ours.startswith(POOLED):
            states = torch.stack(list(expected[theirs])).to(mask.device)
            total = total + weight * functional.mse_loss(outputs[ours].float(), states)
            continue
        teacher, tokens = _padded(expected[theirs], mask)
        total = total + weight * hidden_states(outputs[ours], teacher, tokens)
    for ours, theirs in paired.relations:
        teacher, tokens = _padded(expected[theirs], mask)
        term = relations(outputs[ours], teacher, tokens, settings.relation_heads)
        total = total + settings.relations / len(paired.relations) * term
    return total


def _logits(task: Task, values: Sequence[torch.Tensor], mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The teacher's logits of a batch, of shape (batch, labels) or (batch, length, labels), and the tokens to compare."""
    if task.of_tokens:
        stacked, tokens = _padded(values, mask)
        known = ~stacked.isnan().any(dim=-1)  # NaN: no token of the teacher corresponds (`learn.at_words`)
        return stacked.nan_to_num(), tokens & known
    return torch.stack(list(values)).to(mask.device), mask


def _padded(values: Sequence[torch.Tensor], mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Stacks tensors of shape (tokens, width) to (batch, length, width); with the mask of tokens that are compared."""
    length = mask.shape[1]
    same = torch.tensor([len(value) for value in values], device=mask.device) == mask.sum(dim=1)
    stacked = pad_sequence([value[:length] for value in values], batch_first=True).to(mask.device)
    if stacked.shape[1] < length:
        stacked = nn.functional.pad(stacked, (0, 0, 0, length - stacked.shape[1]))
    return stacked, mask & same[:, None]
