"""Losses equal slow NumPy, teach by gradients, see no masked token, and stay finite where nothing counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebert.stages.distill.losses import hidden_states, relations
from edgebert.tasks.soft_labels import soft_labels

SEEDS = st.integers(0, 2**32 - 1)


def softmax(row: Any) -> Any:
    shares = np.exp(row - row.max())
    return shares / shares.sum()


def divergence(teacher: Any, student: Any) -> float:
    """KL(teacher || student) of two rows of logits."""
    wanted, found = softmax(teacher), softmax(student)
    return sum(float(p * (math.log(p) - math.log(q))) for p, q in zip(wanted, found, strict=True) if p > 0)


def tensors(seed: int, *shapes: tuple[int, ...], scale: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator) for shape in shapes]


def mask_of(seed: int, batch: int, length: int) -> torch.Tensor:
    """Any tokens, one or more in all; an example may have none."""
    mask = np.random.default_rng(seed).random((batch, length)) < 0.6
    mask[0, 0] = True
    return torch.from_numpy(mask)


@given(seed=SEEDS, examples=st.integers(1, 4), labels=st.integers(2, 5), temperature=st.sampled_from([0.5, 1.0, 2.0, 8.0]))
def test_soft_labels_equal_numpy(seed: int, examples: int, labels: int, temperature: float) -> None:
    student, teacher = tensors(seed, (examples, labels), (examples, labels), scale=3.0)
    rows = zip(teacher.double().numpy(), student.double().numpy(), strict=True)
    wanted = temperature**2 * np.mean([divergence(t / temperature, s / temperature) for t, s in rows])
    assert float(soft_labels(student, teacher, temperature)) == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_soft_labels_of_a_teacher_that_is_certain_are_finite() -> None:
    student = torch.tensor([[0.0, 1.0]], requires_grad=True)
    loss = soft_labels(student, torch.tensor([[1e4, -1e4]]), 1.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(1 + math.e), rel=1e-5)
    assert student.grad is not None and torch.isfinite(student.grad).all()


@given(seed=SEEDS, batch=st.integers(1, 3), length=st.integers(1, 5), width=st.integers(1, 4))
def test_hidden_states_equal_numpy(seed: int, batch: int, length: int, width: int) -> None:
    student, teacher = tensors(seed, (batch, length, width), (batch, length, width))
    tokens = mask_of(seed, batch, length)
    squares = [
        float((student[row, index, column] - teacher[row, index, column]) ** 2)
        for row in range(batch)
        for index in range(length)
        if tokens[row, index]
        for column in range(width)
    ]
    assert float(hidden_states(student, teacher, tokens)) == pytest.approx(np.mean(squares), rel=1e-4, abs=1e-6)


@settings(max_examples=60)
@given(
    seed=SEEDS,
    batch=st.integers(1, 3),
    length=st.integers(1, 5),
    heads=st.integers(1, 4),
    widths=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_relations_equal_numpy(seed: int, batch: int, length: int, heads: int, widths: tuple[int, int]) -> None:
    """With widths of student and teacher that differ."""
    student, teacher = tensors(seed, (batch, length, widths[0] * heads), (batch, length, widths[1] * heads), scale=1.5)
    tokens = mask_of(seed, batch, length)
    values = []
    for row in range(batch):
        valid = [index for index in range(length) if tokens[row, index]]
        for head in range(heads):
            scores = []
            for vectors, size in ((teacher, widths[1]), (student, widths[0])):
                part = vectors[row, valid, head * size : (head + 1) * size].double().numpy()
                scores.append(part @ part.T / math.sqrt(size))
            values += [divergence(wanted, found) for wanted, found in zip(*scores, strict=True)]
    assert float(relations(student, teacher, tokens, heads)) == pytest.approx(np.mean(values), rel=1e-3, abs=1e-5)


def by_tokens(student: torch.Tensor, teacher: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return relations(student, teacher, tokens, 2)


LOSSES = {"hidden_states": hidden_states, "relations": by_tokens}
of_tokens = pytest.mark.parametrize("loss_of", LOSSES.values(), ids=LOSSES)
LossOf = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@of_tokens
@settings(max_examples=40)
@given(seed=SEEDS, what=st.sampled_from([0.0, 7.0, -1e3, 1e6]))
def test_masked_tokens_have_no_influence(loss_of: LossOf, seed: int, what: float) -> None:
    student, teacher = tensors(seed, (3, 5, 4), (3, 5, 4))
    tokens = mask_of(seed, 3, 5)
    student.requires_grad_()
    loss = loss_of(student, teacher, tokens)
    (gradient,) = torch.autograd.grad(loss, student)
    assert not gradient[~tokens].any()
    others = [torch.where(tokens[..., None], value.detach(), what) for value in (student, teacher)]
    others[0].requires_grad_()
    changed = loss_of(*others, tokens)
    torch.testing.assert_close(changed, loss, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(changed, others[0])[0], gradient, atol=1e-6, rtol=1e-5)


@of_tokens
def test_tokens_that_count_have_influence(loss_of: LossOf) -> None:
    student, teacher = tensors(1, (2, 4, 4), (2, 4, 4))
    tokens = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]).bool()
    before = float(loss_of(student, teacher, tokens))
    for row, index in tokens.nonzero().tolist():
        other = student.clone()
        other[row, index] += 1
        assert abs(float(loss_of(other, teacher, tokens)) - before) > 1e-4


@of_tokens
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_no_token_counts_there_is_nothing_to_learn(loss_of: LossOf, dtype: torch.dtype) -> None:
    student, teacher = (value.to(dtype) for value in tensors(1, (2, 4, 4), (2, 4, 4)))
    student.requires_grad_()
    loss = loss_of(student, teacher, torch.zeros(2, 4, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert student.grad is not None and not student.grad.any()


@pytest.mark.parametrize("widths", [(8, 8), (4, 12), (12, 4)])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_relations_need_neither_equal_widths_nor_equal_heads(widths: tuple[int, int], heads: int) -> None:
    student, teacher = tensors(2, (2, 5, widths[0]), (2, 5, widths[1]))
    tokens = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    student.requires_grad_()
    relations(student, teacher, tokens, heads).backward()
    assert student.grad is not None
    assert (student.grad[tokens].abs().sum(dim=-1) > 0).all()


def test_vectors_that_do_not_divide_into_heads_are_refused() -> None:
    student, teacher = tensors(2, (1, 3, 8), (1, 3, 6))
    with pytest.raises(RuntimeError):
        relations(student, teacher, torch.ones(1, 3).bool(), 4)


def every_loss(student: torch.Tensor, teacher: torch.Tensor) -> list[torch.Tensor]:
    tokens = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]).bool()
    labels = soft_labels(student[:, 0], teacher[:, 0], 2.0)
    return [labels, hidden_states(student, teacher, tokens), relations(student, teacher, tokens, 2)]


@given(seed=SEEDS)
def test_no_loss_is_negative_and_a_perfect_student_has_none(seed: int) -> None:
    student, teacher = tensors(seed, (2, 4, 4), (2, 4, 4))
    assert all(float(loss) > 1e-6 for loss in every_loss(student, teacher))
    assert all(abs(float(loss)) < 1e-6 for loss in every_loss(teacher.clone(), teacher))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_following_the_gradient_makes_a_student_like_the_teacher(which: int) -> None:
    student, teacher = tensors(5, (2, 4, 4), (2, 4, 4))
    student.requires_grad_()
    first = float(every_loss(student, teacher)[which].detach())
    optimizer = torch.optim.Adam([student], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        every_loss(student, teacher)[which].backward()
        assert student.grad is not None and torch.isfinite(student.grad).all()
        optimizer.step()
    assert float(every_loss(student, teacher)[which].detach()) < 0.1 * first


def test_losses_are_computed_in_single_precision() -> None:
    student, teacher = tensors(5, (2, 4, 4), (2, 4, 4))
    found = every_loss(student.bfloat16(), teacher.half())
    assert {loss.dtype for loss in found} == {torch.float32}
    wanted = every_loss(student.bfloat16().float(), teacher.half().float())
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_are_computed_in_single_precision_under_autocast_too(dtype: torch.dtype) -> None:
    student, teacher = (tensor.to(dtype) for tensor in tensors(5, (2, 4, 4), (2, 4, 4)))
    wanted = every_loss(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        found = every_loss(student, teacher)
    assert torch.equal(torch.stack(found), torch.stack(wanted))
