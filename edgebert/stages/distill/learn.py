"""learn: trains a student on the outputs of its teachers; called by the distill stage, and by prune between its steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgebert.core.progress import Progress
from edgebert.errors import StageError
from edgebert.models.fake_quant import fake_quantized
from edgebert.models.parts import EmbeddingParts
from edgebert.stages.distill.losses import Learner, Pairing, loss
from edgebert.stages.distill.output_blocks import LOGITS
from edgebert.stages.distill.settings import Objective, QuantizationAware
from edgebert.stages.distill.teacher_outputs import Teacher
from edgebert.stages.examples import Examples, first_tokens, same_tokens
from edgebert.stages.training import EarlyStopping, Schedule, train
from edgebert.tasks.base import Encoded


def learn(
    student: Any,
    teachers: Sequence[Teacher],
    paired: Pairing,
    examples: Examples,
    settings: Objective,
    *,
    seed: int,
    work: Path,
    progress: Progress,
    title: str,
    quantization_aware: QuantizationAware | None = None,
    by_words: bool = False,
) -> dict[str, Any]:
    """Trains the student in place.

    Args:
        teachers: soft labels are the mean of their logits; hidden states and relations come from the first.
        work: folder for checkpoints.
        quantization_aware: rounds the student's weights and activations like this quantisation, in training and in early
            stopping's evaluations; its weights stay FP32.
        by_words: compare the logits of tokens at the first token of each word, where tokenizers differ.

    Returns:
        The facts of `train`.
    """
    torch.manual_seed(seed)  # draws the weights of the learned maps
    task = examples.serving.task
    learner = Learner(student, teachers[0].model, paired, settings, task)
    held_out, trained = _split(len(examples), settings, seed)
    lengths = [examples.lengths[index] for index in trained]
    coarse = settings.precision == "bf16"

    def loss_on(module: Any, indices: Sequence[int]) -> torch.Tensor:
        device = next(module.parameters()).device
        batch = {name: value.to(device) for name, value in examples.batch(indices, coarse=coarse).items()}
        targets = batch.pop("labels")
        return loss(settings, task, paired, module(**batch), _outputs(teachers, indices, examples, by_words), batch, targets)

    def watched(module: Any) -> float:
        size = settings.batch_size
        ordered = sorted(held_out, key=lambda index: (examples.lengths[index], index))
        parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        return sum(float(loss_on(module, part)) * len(part) for part in parts) / len(ordered)

    rounding = fake_quantized(student) if quantization_aware else contextlib.nullcontext()
    with _training_mode(student, settings), rounding:
        return train(
            learner,
            lengths=lengths,
            loss_of=lambda module, indices: loss_on(module, [trained[index] for index in indices]),
            schedule=Schedule.of(settings, seed),
            work=work,
            progress=progress,
            title=title,
            early_stopping=_early_stopping(settings, len(trained), watched),
        )


def _split(count: int, settings: Objective, seed: int) -> tuple[list[int], list[int]]:
    """Indices of the examples held out for early stopping, and of the others."""
    if settings.early_stopping is None:
        return [], list(range(count))
    if count < 2:
        raise StageError(
            "early_stopping holds examples out, but there is only one.", hint="Give more rows, or drop early_stopping."
        )
    held = min(max(1, round(count * settings.early_stopping.share)), count - 1)
    order = [int(index) for index in np.random.default_rng(seed).permutation(count)]
    return sorted(order[:held]), sorted(order[held:])


def _early_stopping(settings: Objective, count: int, watched: Any) -> EarlyStopping | None:
    if settings.early_stopping is None:
        return None
    every = max(1, round(settings.early_stopping.every * count / settings.batch_size))
    return EarlyStopping(watched, every=every, patience=settings.early_stopping.patience)


def _outputs(
    teachers: Sequence[Teacher], indices: Sequence[int], examples: Examples, by_words: bool
) -> dict[str, list[torch.Tensor]]:
    """The first teacher's outputs, but with the mean of all teachers' logits."""
    outputs = [_corresponding(teacher, indices, examples, by_words) for teacher in teachers]
    logits = [_mean(values) for values in zip(*(one[LOGITS] for one in outputs), strict=True)]
    return {**outputs[0], LOGITS: logits}


def _corresponding(
    teacher: Teacher, indices: Sequence[int], examples: Examples, by_words: bool
) -> dict[str, list[torch.Tensor]]:
    """A teacher's outputs; none, of zero tokens, for examples that its tokenizer cuts into other tokens than the student's, if
    the task labels tokens; with `by_words`, its logits at the tokens of the student that begin a word."""
    outputs = teacher.outputs(indices)
    if not examples.serving.task.of_tokens or teacher.reads_as(examples):
        return outputs
    ours, theirs = examples.encoded(indices), teacher.examples.encoded(indices)
    if by_words:
        return {**outputs, LOGITS: [at_words(*three) for three in zip(outputs[LOGITS], ours, theirs, strict=True)]}
    same = same_tokens(ours, theirs)
    return {
        name: [value if kept else value[:0] for value, kept in zip(values, same, strict=True)]
        for name, values in outputs.items()
    }


def at_words(logits: torch.Tensor, ours: Encoded, theirs: Encoded) -> torch.Tensor:
    """A teacher's logits as those of the student's tokens, of shape (tokens, labels): those of a word's first token at the
    word's first token, NaN at all others.

    Args:
        logits: of shape (tokens, labels), of the teacher's tokens.
        ours, theirs: the same text, as student and teacher read it.
    """
    found = logits.new_full((len(ours), logits.shape[1]), float("nan"))
    firsts = first_tokens(theirs)
    for word, token in first_tokens(ours).items():
        if word in firsts:
            found[token] = logits[firsts[word]]
    return found


def _mean(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean over the teachers that have an output for the example."""
    known = [value for value in values if len(value)]
    return torch.stack(known).mean(dim=0) if known else values[0]


@contextlib.contextmanager
def _training_mode(student: Any, settings: Objective) -> Iterator[None]:
    """Gives the student the settings' dropout, and freezes its token embeddings unless they are trained; undone on leaving."""
    dropouts = [(module, module.p) for module in student.modules() if isinstance(module, torch.nn.Dropout)]
    table = EmbeddingParts.of(student).word.weight
    for module, _ in dropouts:
        module.p = settings.dropout
    table.requires_grad_(settings.train_embeddings)
    try:
        yield
    finally:
        for module, share in dropouts:
            module.p = share
        table.requires_grad_(True)
