"""vector_losses: what vectors learn from: a teacher's vectors, scores of pairs, questions with their passages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

SCALE = 20.0
"""Factor of cosines before a softmax or an exponential, as in sentence-transformers."""
RELATIONS = 10.0
"""Weight of the similarities within a batch beside the vectors themselves: squares of small differences are small."""
Reduction = Literal["mean", "sum"]


def imitation(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """How far a student's vectors are from a teacher's: 1 - cosine of each, where both have one width, and the mean squared
    difference of the similarities of all pairs of the batch, which need no equal width (relational knowledge distillation, Park
    et al. 2019, arXiv 1904.05068; similarity-preserving, Tung and Mori 2019, arXiv 1907.09682).

    Args:
        student, teacher: shape (batch, width), of any two widths.
    """
    from torch.nn.functional import normalize

    ours, theirs = (normalize(vectors.float(), dim=-1) for vectors in (student, teacher))
    relations = ((ours @ ours.T - theirs @ theirs.T).square()).sum() / max(1, len(ours) * (len(ours) - 1))
    alone = (1.0 - (ours * theirs).sum(dim=-1)).mean() if ours.shape == theirs.shape else 0.0
    loss: torch.Tensor = RELATIONS * relations + alone
    return loss


def distance(vectors: torch.Tensor, targets: torch.Tensor, reduction: Reduction) -> torch.Tensor:
    """Squared distance of each vector from its target, shape (batch, width), summed over the batch or its mean."""
    each = (vectors.float() - targets.float()).square().sum(dim=-1)
    return each.sum() if reduction == "sum" else each.mean()


def with_noise(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors with normal noise of as large a norm, drawn alike for the same number of vectors."""
    import torch

    generator = torch.Generator().manual_seed(len(vectors))
    noise = torch.randn(vectors.shape, generator=generator).to(vectors)
    moved: torch.Tensor = vectors + torch.nn.functional.normalize(noise, dim=-1) * vectors.norm(dim=-1, keepdim=True)
    return moved


def pair_loss(vectors: torch.Tensor, targets: torch.Tensor, *, search: bool, reduction: Reduction) -> torch.Tensor:
    """The loss of the pairs of a batch; texts alone do not count.

    Args:
        vectors: shape (texts, width); the texts of a pair are neighbours.
        targets: the pair's score for both of its texts, NaN for a text alone, shape (texts, 1).
        search: whether pairs are questions with passages, or texts with a score.
    """
    from torch.nn.functional import normalize

    paired = ~targets[:, 0].isnan()
    known, scores = vectors[paired], targets[paired][::2, 0]
    if len(known) < 2 or len(known) % 2:  # halves of pairs, as where windows were drawn one by one
        return vectors.sum() * 0.0
    first, second = (normalize(known[side::2].float(), dim=-1) for side in (0, 1))
    loss = in_batch(first, second) if search else cosent(first, second, scores)
    return loss * len(known) if reduction == "sum" else loss


def in_batch(questions: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of finding each question's passage among all of the batch (multiple negatives ranking, Henderson et al.
    2017, arXiv 1705.00652).

    Args:
        questions, passages: of length 1, shape (pairs, width).
    """
    import torch

    right = torch.arange(len(questions), device=questions.device)
    return torch.nn.functional.cross_entropy(SCALE * questions @ passages.T, right)


def cosent(first: torch.Tensor, second: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """log(1 + sum of exp(SCALE * (cosine of a less similar pair - that of a more similar one))) over all two pairs of the batch
    whose scores differ (CoSENT, Su 2022, kexue.fm/archives/8847): only the order of scores counts, not their scale.

    Args:
        first, second: of length 1, shape (pairs, width).
        scores: shape (pairs,).
    """
    import torch

    cosines = SCALE * (first * second).sum(dim=-1)
    less = scores[:, None] < scores[None, :]
    differences = (cosines[:, None] - cosines[None, :])[less]
    return torch.logsumexp(torch.cat([differences.new_zeros(1), differences]), dim=0)
