"""The training loop of every stage that trains: Accelerate underneath, resumable to the same weights.

A step's randomness (order of examples, dropout) depends on the seed and the step's number alone, and a checkpoint holds
weights, optimiser state and step, so a run that was killed and resumed ends with the bits of one that was not (same
machine, same threads). Checkpoints are safetensors: no pickle.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgebert.core.progress import Progress
from edgebert.errors import StageError
from edgebert.stages.checkpoint import best_weights, keep_best, resume, save

if TYPE_CHECKING:
    import torch

POOL_BATCHES = 50


@dataclass(frozen=True)
class Schedule:
    """Optimiser settings. The rate rises linearly over the warm-up share, then falls linearly to 0."""

    epochs: float
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_share: float
    seed: int
    checkpoint_seconds: float
    accumulate: int = 1
    """Batches whose gradients are added up for one step of the optimiser."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of forward passes; weights and optimiser stay FP32."""

    @classmethod
    def of(cls, settings: Any, seed: int) -> Schedule:
        """The schedule of a stage's settings, whose fields have the names of those here."""
        names = [field.name for field in fields(cls) if hasattr(settings, field.name)]
        return cls(**{name: getattr(settings, name) for name in names}, seed=seed)

    def steps(self, examples: int) -> int:
        """Number of batches in all epochs."""
        return max(1, math.ceil(math.ceil(examples / self.batch_size) * self.epochs))

    def window(self, step: int, total: int) -> int:
        """Number of batches whose gradients are added up with those of batch `step` (from 0); fewer at the end."""
        return min(self.accumulate, total - step // self.accumulate * self.accumulate)

    def rate(self, step: int, total: int) -> float:
        """Learning rate of batch `step`, counted from 0."""
        warmup = max(1, round(total * self.warmup_share))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * (total - step) / max(1, total - warmup)


@dataclass(frozen=True)
class EarlyStopping:
    """Stops when the watched loss stops falling, and keeps the weights of its lowest value."""

    loss_of: Callable[[Any], float]
    """Model in evaluation mode -> loss on examples that are not trained on."""
    every: int
    """Batches between two evaluations of the watched loss."""
    patience: int
    """Evaluations without a new lowest loss before it stops."""


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of example indices: shuffled, then sorted by length within pools of 50 batches, then shuffled again.

    Examples of similar length share a batch, which saves padding.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    pool = batch_size * POOL_BATCHES
    by_length = np.asarray(lengths)
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        chunk = order[start : start + pool]
        chunk = chunk[np.argsort(by_length[chunk], kind="stable")]
        batches += [[int(index) for index in chunk[at : at + batch_size]] for at in range(0, len(chunk), batch_size)]
    return [batches[int(index)] for index in generator.permutation(len(batches))]


def batches_from(lengths: Sequence[int], schedule: Schedule, first: int, total: int) -> Iterator[list[int]]:
    """The batches number `first` to `total` - 1 of a whole training."""
    per_epoch = math.ceil(len(lengths) / schedule.batch_size)
    cached: tuple[int, list[list[int]]] = (-1, [])
    for step in range(first, total):
        epoch, index = divmod(step, per_epoch)
        if cached[0] != epoch:
            cached = (epoch, epoch_batches(lengths, schedule.batch_size, schedule.seed, epoch))
        yield cached[1][index]


def train(
    model: Any,
    *,
    lengths: Sequence[int],
    loss_of: Callable[[Any, list[int]], torch.Tensor],
    schedule: Schedule,
    work: Path,
    progress: Progress,
    title: str,
    early_stopping: EarlyStopping | None = None,
) -> dict[str, Any]:
    """Trains, in place, the parameters that require a gradient.

    Args:
        model: torch module.
        lengths: tokens of each example, which decide the batches.
        loss_of: (model, indices) -> scalar loss of those examples.
        work: folder of the checkpoint; training resumes from one that is there.

    Returns:
        Steps, final loss, and with early stopping the best watched loss.

    Raises:
        StageError: the loss is NaN.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    total = schedule.steps(len(lengths))
    accelerator = Accelerator(step_scheduler_with_optimizer=False)
    groups = _parameter_groups(model, schedule.weight_decay)
    trained = [parameter for group in groups for parameter in group["params"]]
    optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate, fused=True)
    model.train()
    prepared, optimizer = accelerator.prepare(model, optimizer)
    state = resume(work, prepared, optimizer)
    saved_at = time.monotonic()

    def precision() -> torch.autocast:
        # Not Accelerator's own mixed precision: that is one setting for the whole process, and stages differ.
        return torch.autocast(accelerator.device.type, torch.bfloat16, enabled=schedule.precision == "bf16")

    with progress.step(title, total) as bar:
        bar.skip_to(state.step)
        stopped = early_stopping is not None and state.waited >= early_stopping.patience
        for indices in batches_from(lengths, schedule, state.step, total if not stopped else state.step):
            step = state.step
            set_seed((schedule.seed * 1_000_003 + step) % 2**32)  # NumPy takes no larger seed
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step, total)
            with precision():
                loss = loss_of(prepared, indices)
            if not torch.isfinite(loss):
                raise StageError(
                    f"{title}: the loss became {loss.item()} at step {step + 1} of {total}.",
                    hint="Lower learning_rate, and look for damaged rows in data.train.",
                )
            accelerator.backward(loss / schedule.window(step, total))
            state.loss = 0.98 * state.loss + 0.02 * loss.item() if step else loss.item()
            state.step += 1
            bar.advance()
            last = state.step == total
            if state.step % schedule.accumulate and not last:
                continue  # a checkpoint here would have to hold the gradients
            accelerator.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if early_stopping and (last or _is_due(state.step, early_stopping.every, schedule.accumulate)):
                with precision():
                    watched = _watched(model, early_stopping)
                keep_best(model, state, watched, work)
                stopped = state.waited >= early_stopping.patience
            if stopped or time.monotonic() - saved_at >= schedule.checkpoint_seconds:
                save(work, prepared, optimizer, state)
                saved_at = time.monotonic()
            if stopped:
                break
    model.to("cpu").eval()
    facts = {"steps": state.step, "train_loss": round(state.loss, 5)}
    if early_stopping:
        if math.isfinite(state.best):  # every watched loss was NaN: the last weights are as good as any
            model.load_state_dict(best_weights(work))
        facts["watched_loss"] = round(state.best, 5)
    return facts


def _is_due(step: int, every: int, accumulate: int) -> bool:
    """Whether a multiple of `every` lies in the last `accumulate` batches."""
    return step // every > (step - accumulate) // every


def _watched(model: Any, early_stopping: EarlyStopping) -> float:
    """The watched loss, in evaluation mode and without gradients."""
    import torch

    model.eval()
    with torch.no_grad():
        watched = early_stopping.loss_of(model)
    model.train()
    return watched


def _parameter_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and LayerNorm do not."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim < 2], "weight_decay": 0.0},
    ]
