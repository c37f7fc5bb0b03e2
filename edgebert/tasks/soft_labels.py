"""soft_labels, soft_decisions: the loss of a student that learns from a teacher's probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def soft_labels(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 * KL(teacher || student) of the logits at temperature T, mean over examples (Hinton et al. 2015, arXiv 1503.02531).

    Args:
        student, teacher: logits of shape (examples, labels).
    """
    from torch.nn.functional import kl_div

    expected = (teacher.float() / temperature).softmax(dim=-1)
    log_shares = (student.float() / temperature).log_softmax(dim=-1)
    return kl_div(log_shares, expected, reduction="batchmean") * temperature**2


def soft_decisions(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 * KL(teacher || student) of each label's two outcomes at temperature T, mean over examples and labels: as
    `soft_labels`, for labels that do not exclude each other.

    Args:
        student, teacher: logits of shape (examples, labels).
    """
    from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

    theirs, ours = teacher.float() / temperature, student.float() / temperature
    expected = theirs.sigmoid()
    entropy = -(expected * logsigmoid(theirs) + (1 - expected) * logsigmoid(-theirs)).mean()
    return (binary_cross_entropy_with_logits(ours, expected) - entropy) * temperature**2
