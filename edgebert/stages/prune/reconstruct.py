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

from edgebert.models.surgery import Kept, encoder_of, layers_of

RIDGE = 1e-2
"""Share of the mean diagonal of X'X that is added to it."""
MAX_TOKENS = 65_536
"""Most tokens to fit on: more do not improve the fit, and a matrix's inputs are all in memory, 4 bytes a token and neuron."""


@dataclass
class _Half:
    """One half of a layer, for each batch: the inputs of its output matrix, and the residual that is added to the output."""

    inputs: list[torch.Tensor]
    residual: list[torch.Tensor]


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
    masks = [_additive(batch["attention_mask"], student.dtype) for batch in batches]
    ours, theirs = _embedded(student, batches), _embedded(teacher, batches)
    passed = 0
    for layer, source in zip(layers_of(student), sorted(kept), strict=True):
        for skipped in layers_of(teacher)[passed:source]:  # the teacher also goes through the layers that were removed
            theirs = _normed(
                _ffn(skipped, _normed(_attention(skipped, theirs, masks), skipped.attention.output)), skipped.output
            )
        whole = layers_of(teacher)[source]
        for half, ours_module, theirs_module in (
            (_attention, layer.attention.output, whole.attention.output),
            (_ffn, layer.output, whole.output),
        ):
            pruned, expected = half(layer, ours, masks), half(whole, theirs, masks)
            _fit(ours_module.dense, pruned, _sums(expected, theirs_module), valid, ridge)
            ours, theirs = _normed(pruned, ours_module), _normed(expected, theirs_module)
        passed = source + 1
        tick()


def within(batches: Sequence[Mapping[str, torch.Tensor]], tokens: int = MAX_TOKENS) -> Sequence[Mapping[str, torch.Tensor]]:
    """Every k-th batch, with the least k that leaves at most that many tokens, padding included, or one batch."""
    total = sum(batch["attention_mask"].numel() for batch in batches)
    return batches[:: max(1, min(len(batches), -(-total // tokens)))]


def _embedded(model: Any, batches: Sequence[Mapping[str, torch.Tensor]]) -> list[torch.Tensor]:
    embeddings = encoder_of(model).embeddings
    return [embeddings(input_ids=batch["input_ids"], token_type_ids=batch.get("token_type_ids")) for batch in batches]


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(batch, length) of 1 and 0 -> (batch, 1, 1, length) to add to attention scores."""
    return (1.0 - mask[:, None, None, :].to(dtype)) * torch.finfo(dtype).min


def _attention(layer: Any, hidden: list[torch.Tensor], masks: list[torch.Tensor]) -> _Half:
    return _Half([layer.attention.self(x, mask)[0] for x, mask in zip(hidden, masks, strict=True)], hidden)


def _ffn(layer: Any, hidden: list[torch.Tensor], masks: list[torch.Tensor] | None = None) -> _Half:
    return _Half([layer.intermediate(x) for x in hidden], hidden)


def _sums(half: _Half, module: Any) -> list[torch.Tensor]:
    """The residual stream behind the half, before LayerNorm, for each batch."""
    return [module.dense(x) + residual for x, residual in zip(half.inputs, half.residual, strict=True)]


def _normed(half: _Half, module: Any) -> list[torch.Tensor]:
    return [module.LayerNorm(total) for total in _sums(half, module)]


def _fit(dense: Any, half: _Half, expected: list[torch.Tensor], valid: torch.Tensor, ridge: float) -> None:
    """argmin over W, b of |X W' + b + residual - expected|^2 + ridge * mean(diag X'X) * |W - W_old|^2."""
    x = torch.cat([value.reshape(-1, value.shape[-1]) for value in half.inputs])[valid]
    missing = [target - total for target, total in zip(expected, _plain_sums(half, dense), strict=True)]
    y = torch.cat([value.reshape(-1, value.shape[-1]) for value in missing])[valid]
    x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
    x, y = x - x_mean, y - y_mean
    gram = (x.T @ x).double()
    gram += ridge * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram), dtype=torch.float64)
    change = torch.linalg.solve(gram, (x.T @ y).double()).to(dense.weight.dtype)
    dense.weight += change.T
    dense.bias += y_mean - x_mean @ change


def _plain_sums(half: _Half, dense: Any) -> list[torch.Tensor]:
    return [dense(x) + residual for x, residual in zip(half.inputs, half.residual, strict=True)]
