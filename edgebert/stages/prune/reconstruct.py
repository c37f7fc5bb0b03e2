"""reconstruct: repairs a pruned model without training, by least squares, layer by layer.

The output matrices of both halves of each layer are fitted so that what the layer adds to the residual stream brings it as
close as possible to the teacher's. Kwon et al. 2022 (arXiv 2204.09656, section 4.3) fit one factor for each mask; here the
whole matrix is fitted, which holds their solution as a special case, with a ridge that keeps it near the old one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgebert.models.load import run_model
from edgebert.models.parts import EmbeddingParts, LayerParts, inputs_of, parts_of, shared_bias
from edgebert.models.surgery import Kept

RIDGE = 1e-2
"""Share of the mean diagonal of X'X that is added to it."""
MAX_TOKENS = 65_536
"""Most tokens to fit on: more do not improve the fit, and a matrix's inputs are all in memory, 4 bytes a token and neuron."""


Call = tuple[tuple[Any, ...], Mapping[str, Any]]
"""What the attention module of a layer takes beside hidden states, for a batch: by place, and by name."""


@dataclass
class _Reached:
    """One half of a layer, for each batch: the inputs of its output matrix, and the residual that is added to the output."""

    inputs: list[torch.Tensor]
    residual: list[torch.Tensor]


@dataclass(frozen=True)
class _Half:
    """One half of a layer: what computes the inputs of its output matrix, that matrix, and the norm behind the sum."""

    inputs: Callable[[torch.Tensor, Call], torch.Tensor]
    """(hidden states, what attention takes beside them) -> what the matrix reads."""
    matrix: Any
    norm: Any

    def of(self, hidden: list[torch.Tensor], calls: list[Call]) -> _Reached:
        """The half, reached by these hidden states, one tensor a batch."""
        return _Reached([self.inputs(x, call) for x, call in zip(hidden, calls, strict=True)], hidden)

    def sums(self, reached: _Reached) -> list[torch.Tensor]:
        """The residual stream behind the half, before its norm, for each batch."""
        return [self.matrix(x) + residual for x, residual in zip(reached.inputs, reached.residual, strict=True)]

    def normed(self, reached: _Reached) -> list[torch.Tensor]:
        """The hidden states behind the half, for each batch."""
        return [self.norm(total) for total in self.sums(reached)]


def halves(layer: LayerParts) -> tuple[_Half, _Half]:
    """The attention half and the FFN half of a layer."""
    if layer.paths.before:
        return (
            _Half(lambda hidden, call: mixed(layer, layer.attention_norm(hidden), call), layer.attention_output, _Reader()),
            _Half(lambda hidden, call: layer.neurons(layer.norm(hidden)), layer.down, _Reader()),
        )
    return (
        _Half(lambda hidden, call: mixed(layer, hidden, call), layer.attention_output, layer.attention_norm),
        _Half(lambda hidden, call: layer.neurons(hidden), layer.down, layer.norm),
    )


class _Reader(torch.nn.Module):
    """Stands in for a matrix or a norm, and returns what it was to read."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs


def mixed(layer: LayerParts, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    """What the output matrix of the attention half reads, of shape (batch, length, heads * head size).

    The attention module of some families applies that matrix itself; there it is left out meanwhile.

    Args:
        hidden: what the projections read.
    """
    paths = layer.paths
    inner = paths.attention_output.removeprefix(f"{paths.attention}.")
    if inner == paths.attention_output:
        found: torch.Tensor = layer.attention(hidden, *call[0], **call[1])[0]
        return found
    matrix = layer.attention_output
    layer.attention.set_submodule(inner, _Reader())
    try:
        found = layer.attention(hidden, *call[0], **call[1])[0]
    finally:
        layer.attention.set_submodule(inner, matrix)
    return found


@torch.no_grad()
def reconstruct(
    student: Any,
    teacher: Any,
    kept: Kept,
    batches: Sequence[Mapping[str, torch.Tensor]],
    *,
    ridge: float = RIDGE,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Fits the output matrices of every layer of `student`, in place.

    Args:
        student: the result of `prune(teacher, kept)`.
        kept: units by layer of the teacher; tells which of its layers each layer of the student comes from.
        batches: task inputs with `input_ids` and `attention_mask`, shape (batch, length); some thousands of tokens.
        tick: called after each layer.
    """
    batches = within(batches)
    valid = torch.cat([batch["attention_mask"].reshape(-1) for batch in batches]).bool()
    ours, theirs = _embedded(student, batches), _embedded(teacher, batches)
    calls = _calls(teacher, batches, theirs)
    passed = 0
    whole = parts_of(teacher)
    for layer, source in zip(parts_of(student), sorted(kept), strict=True):
        for skipped in range(passed, source):  # the teacher also goes through the layers that were removed
            for half in halves(whole[skipped]):
                theirs = half.normed(half.of(theirs, calls[skipped]))
        for ours_half, theirs_half in zip(halves(layer), halves(whole[source]), strict=True):
            pruned, expected = ours_half.of(ours, calls[source]), theirs_half.of(theirs, calls[source])
            _fit(ours_half.matrix, pruned, theirs_half.sums(expected), valid, ridge)
            ours, theirs = ours_half.normed(pruned), theirs_half.normed(expected)
        passed = source + 1
        tick()


def within(batches: Sequence[Mapping[str, torch.Tensor]], tokens: int = MAX_TOKENS) -> Sequence[Mapping[str, torch.Tensor]]:
    """Every k-th batch, with the least k that leaves at most that many tokens, padding included, or one batch."""
    total = sum(batch["attention_mask"].numel() for batch in batches)
    return batches[:: max(1, min(len(batches), -(-total // tokens)))]


def _embedded(model: Any, batches: Sequence[Mapping[str, torch.Tensor]]) -> list[torch.Tensor]:
    embeddings, segmented = EmbeddingParts.of(model), "token_type_ids" in inputs_of(model)
    options = [{"token_type_ids": batch.get("token_type_ids")} if segmented else {} for batch in batches]
    project = embeddings.projection or torch.nn.Identity()
    return [
        project(embeddings.module(input_ids=batch["input_ids"], **own)) for batch, own in zip(batches, options, strict=True)
    ]


def _calls(model: Any, batches: Sequence[Mapping[str, torch.Tensor]], hidden: list[torch.Tensor]) -> list[list[Call]]:
    """What the attention modules of a model take, or those of one that was cut from it: for each layer, for each batch."""
    layers = parts_of(model)
    if not layers[0].paths.mask_alone:
        return _recorded(model, batches)
    scores = [_scores(model, batch, x) for batch, x in zip(batches, hidden, strict=True)]
    return [scores] * len(layers)


def _recorded(model: Any, batches: Sequence[Mapping[str, torch.Tensor]]) -> list[list[Call]]:
    """The same, as Transformers makes it in a pass: masks, rotations, relative positions."""
    layers = parts_of(model)
    calls: list[list[Call]] = [[] for _ in layers]

    def keep(index: int) -> Any:
        return lambda module, inputs, named: calls[index].append((inputs[1:], {**named}))

    handles = [layer.attention.register_forward_pre_hook(keep(index), with_kwargs=True) for index, layer in enumerate(layers)]
    try:
        for batch in batches:
            run_model(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _scores(model: Any, batch: Mapping[str, torch.Tensor], hidden: torch.Tensor) -> Call:
    """An additive mask, and the bias that all layers share, in a family with one."""
    mask, bias = _additive(batch["attention_mask"], model.dtype), shared_bias(model, hidden)
    return ((mask,) if bias is None else (mask, bias)), {}


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(batch, length) of 1 and 0 -> (batch, 1, 1, length) to add to attention scores."""
    return (1.0 - mask[:, None, None, :].to(dtype)) * torch.finfo(dtype).min


def _fit(dense: Any, half: _Reached, expected: list[torch.Tensor], valid: torch.Tensor, ridge: float) -> None:
    """argmin over W, b of |X W' + b + residual - expected|^2 + ridge * mean(diag X'X) * |W - W_old|^2."""
    x = torch.cat([value.reshape(-1, value.shape[-1]) for value in half.inputs])[valid]
    missing = [target - total for target, total in zip(expected, _plain_sums(half, dense), strict=True)]
    y = torch.cat([value.reshape(-1, value.shape[-1]) for value in missing])[valid]
    if dense.bias is not None:
        x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
        x, y = x - x_mean, y - y_mean
    gram = (x.T @ x).double()
    gram += ridge * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram), dtype=torch.float64)
    change = torch.linalg.solve(gram, (x.T @ y).double()).to(dense.weight.dtype)
    dense.weight += change.T
    if dense.bias is not None:
        dense.bias += y_mean - x_mean @ change


def _plain_sums(half: _Reached, dense: Any) -> list[torch.Tensor]:
    return [dense(x) + residual for x, residual in zip(half.inputs, half.residual, strict=True)]
