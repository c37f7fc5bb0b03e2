"""The training loop of every stage that trains: Accelerate underneath, resumable to the same weights.

A step's randomness (order of examples, dropout) depends on the seed and the step's number alone, and a checkpoint holds
weights, optimiser state and step, so a run that was killed and resumed ends with the bits of one that was not (same
machine, same threads). Checkpoints are safetensors: no pickle.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgebert.errors import StageError
from edgebert.progress import Progress

if TYPE_CHECKING:
    import torch

CHECKPOINT = "checkpoint.safetensors"
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

    def steps(self, examples: int) -> int:
        """Steps in all."""
        return max(1, math.ceil(math.ceil(examples / self.batch_size) * self.epochs))

    def rate(self, step: int, total: int) -> float:
        """Learning rate of a step, counted from 0."""
        warmup = max(1, round(total * self.warmup_share))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * (total - step) / max(1, total - warmup)


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of example indices: shuffled, then sorted by length within pools of 50 batches, then shuffled again.

    Examples of one length travel together, which saves padding.
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
    return [batches[int(place)] for place in generator.permutation(len(batches))]


def batches_from(lengths: Sequence[int], schedule: Schedule, first: int, total: int) -> Iterator[list[int]]:
    """The batches of steps `first` to `total`."""
    per_epoch = math.ceil(len(lengths) / schedule.batch_size)
    cached: tuple[int, list[list[int]]] = (-1, [])
    for step in range(first, total):
        epoch, place = divmod(step, per_epoch)
        if cached[0] != epoch:
            cached = (epoch, epoch_batches(lengths, schedule.batch_size, schedule.seed, epoch))
        yield cached[1][place]


def train(
    model: Any,
    *,
    lengths: Sequence[int],
    loss_of: Callable[[Any, list[int]], torch.Tensor],
    schedule: Schedule,
    work: Path,
    progress: Progress,
    title: str,
) -> dict[str, Any]:
    """Trains in place.

    Args:
        model: torch module.
        lengths: tokens of each example; decides the batches.
        loss_of: (model, indices) -> scalar loss of those examples.
        work: folder for the checkpoint; a checkpoint there is resumed.

    Returns:
        Steps, final loss.

    Raises:
        StageError: the loss is NaN.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    total = schedule.steps(len(lengths))
    accelerator = Accelerator(step_scheduler_with_optimizer=False)
    optimizer = torch.optim.AdamW(_parameter_groups(model, schedule.weight_decay), lr=schedule.learning_rate)
    model.train()
    prepared, optimizer = accelerator.prepare(model, optimizer)
    first, loss_mean = _resume(work, prepared, optimizer)
    saved_at = time.monotonic()
    with progress.step(title, total) as bar:
        bar.skip_to(first)
        for step, indices in enumerate(batches_from(lengths, schedule, first, total), start=first):
            set_seed((schedule.seed * 1_000_003 + step) % 2**32)  # NumPy takes no larger seed
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step, total)
            loss = loss_of(prepared, indices)
            if not torch.isfinite(loss):
                raise StageError(
                    f"{title}: the loss became {loss.item()} at step {step + 1} of {total}.",
                    hint="Lower learning_rate, and look for damaged rows in data.train.",
                )
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(prepared.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            loss_mean = 0.98 * loss_mean + 0.02 * loss.item() if step else loss.item()
            bar.advance()
            if time.monotonic() - saved_at >= schedule.checkpoint_seconds:
                _save(work, prepared, optimizer, step + 1, loss_mean)
                saved_at = time.monotonic()
    model.eval()
    return {"steps": total, "train_loss": round(loss_mean, 5)}


def _parameter_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and LayerNorm do not."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim < 2], "weight_decay": 0.0},
    ]


def _save(work: Path, model: Any, optimizer: Any, step: int, loss: float) -> None:
    from safetensors.torch import save_file

    tensors = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    for place, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{name}": value for name, value in entry.items()}
    partial = work / f"{CHECKPOINT}.partial"
    save_file(tensors, partial, metadata={"edgebert": json.dumps({"step": step, "loss": loss})})
    partial.replace(work / CHECKPOINT)


def _resume(work: Path, model: Any, optimizer: Any) -> tuple[int, float]:
    """Loads the checkpoint, if there is one. Returns the step to go on with and the running loss."""
    from safetensors import SafetensorError, safe_open

    if not (work / CHECKPOINT).is_file():
        return 0, 0.0
    try:
        with safe_open(work / CHECKPOINT, framework="pt") as file:
            state = json.loads(file.metadata()["edgebert"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, TypeError, ValueError, OSError):
        return 0, 0.0  # a damaged checkpoint costs time, never the run
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
    moments: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, place, field = name.split(".", 2)
            moments.setdefault(int(place), {})[field] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(state["step"]), float(state["loss"])
