"""learn: trains a student on the outputs of its teachers. `distill` calls it once, gradual pruning between its steps."""

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
from edgebert.models.surgery import encoder_of
from edgebert.stages.distill.losses import Learner, Pairing, loss
from edgebert.stages.distill.settings import Objective, QuantizationAware
from edgebert.stages.distill.teacher_outputs import LOGITS, Teacher
from edgebert.stages.examples import Examples
from edgebert.stages.training import EarlyStopping, Schedule, train


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
) -> dict[str, Any]:
    """Trains in place.

    Args:
        teachers: soft labels are the mean of their logits; hidden states and relations come from the first.
        work: folder for checkpoints.
        quantization_aware: the student answers as that quantisation would make it, while it is trained and while it is
            looked at for early stopping; its weights stay FP32.

    Returns:
        Facts about the training.
    """
    torch.manual_seed(seed)  # draws the learned maps
    learner = Learner(student, teachers[0].model, paired, settings)
    held_out, trained = _split(len(examples), settings, seed)
    lengths = [examples.lengths[index] for index in trained]
    schedule = Schedule(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_share=settings.warmup_share,
        seed=seed,
        checkpoint_seconds=settings.checkpoint_seconds,
        accumulate=settings.accumulate,
        precision=settings.precision,
    )

    coarse = settings.precision == "bf16"

    def loss_on(module: Any, indices: Sequence[int]) -> torch.Tensor:
        device = next(module.parameters()).device
        batch = {name: value.to(device) for name, value in examples.batch(indices, coarse=coarse).items()}
        targets = batch.pop("labels")
        return loss(settings, paired, module(**batch), _outputs(teachers, indices), batch, targets)

    def watched(module: Any) -> float:
        size = settings.batch_size
        ordered = sorted(held_out, key=lambda index: (examples.lengths[index], index))
        parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        return sum(float(loss_on(module, part)) * len(part) for part in parts) / len(ordered)

    rounding = fake_quantized(student) if quantization_aware else contextlib.nullcontext()
    with _as_set(student, settings), rounding:
        return train(
            learner,
            lengths=lengths,
            loss_of=lambda module, indices: loss_on(module, [trained[index] for index in indices]),
            schedule=schedule,
            work=work,
            progress=progress,
            title=title,
            early_stopping=_early_stopping(settings, len(trained), watched),
        )


def _split(count: int, settings: Objective, seed: int) -> tuple[list[int], list[int]]:
    """Examples that are held out for early stopping, and the others."""
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


def _outputs(teachers: Sequence[Teacher], indices: Sequence[int]) -> dict[str, list[torch.Tensor]]:
    """The first teacher's outputs, with the mean of all teachers' logits."""
    found = [teacher.outputs(indices) for teacher in teachers]
    logits = [torch.stack(values).mean(dim=0) for values in zip(*(outputs[LOGITS] for outputs in found), strict=True)]
    return {**found[0], LOGITS: logits}


@contextlib.contextmanager
def _as_set(student: Any, settings: Objective) -> Iterator[None]:
    """Within it the student has the settings' dropout, and its token embeddings are frozen where they are not trained."""
    dropouts = [(module, module.p) for module in student.modules() if isinstance(module, torch.nn.Dropout)]
    table = encoder_of(student).embeddings.word_embeddings.weight
    for module, _ in dropouts:
        module.p = settings.dropout
    table.requires_grad_(settings.train_embeddings)
    try:
        yield
    finally:
        for module, share in dropouts:
            module.p = share
        table.requires_grad_(True)
