"""losses: what a student learns from a teacher, as functions of tensors."""

from __future__ import annotations

import torch
from torch.nn import functional


def soft_labels(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 * KL(teacher || student) of the logits at temperature T, mean over examples (Hinton et al. 2015, arXiv 1503.02531).

    Args:
        student, teacher: logits, shape (examples, labels).
    """
    wanted = (teacher.float() / temperature).softmax(dim=-1)
    found = (student.float() / temperature).log_softmax(dim=-1)
    return functional.kl_div(found, wanted, reduction="batchmean") * temperature**2


def hidden_states(student: torch.Tensor, teacher: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Mean squared difference over the tokens that count (FitNets, Romero et al. 2015; TinyBERT, arXiv 1909.10351).

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
        found, wanted = _relation(student.float(), tokens, heads), _relation(teacher.float(), tokens, heads)
    divergence = (wanted.exp() * (wanted - found)).sum(dim=-1)  # (batch, heads, length)
    rows = tokens[:, None, :].expand_as(divergence)
    return divergence[rows].mean()


def _relation(vectors: torch.Tensor, tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """Log-softmax of scaled dot products, shape (batch, heads, length, length). Padding gets -1e4: no weight, but finite."""
    batch, length, width = vectors.shape
    split = vectors.reshape(batch, length, heads, width // heads).transpose(1, 2)
    scores = split @ split.transpose(2, 3) / (width // heads) ** 0.5
    masked: torch.Tensor = scores.masked_fill(~tokens[:, None, None, :], -1e4)
    return masked.log_softmax(dim=-1)
