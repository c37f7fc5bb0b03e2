"""The training loop of every stage that trains: Accelerate underneath, resumable to the same weights.

A step's randomness (order of examples, dropout) depends on the seed and the step's number alone, and a checkpoint holds
weights, optimiser state and step, so a run that was killed and resumed ends with the bits of one that was not (same
machine, same threads). Checkpoints are safetensors: no pickle.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgebert.artifact import sync_folder
from edgebert.errors import StageError
from edgebert.progress import Progress

if TYPE_CHECKING:
    import torch

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
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
    """Of forward passes; weights and optimiser stay FP32."""

    def steps(self, examples: int) -> int:
        """Batches in all."""
        return max(1, math.ceil(math.ceil(examples / self.batch_size) * self.epochs))

    def window(self, step: int, total: int) -> int:
        """Batches whose gradients are added up together with those of a step, counted from 0; the last ones may be fewer."""
        return min(self.accumulate, total - step // self.accumulate * self.accumulate)

    def rate(self, step: int, total: int) -> float:
        """Learning rate of a step, counted from 0."""
        warmup = max(1, round(total * self.warmup_share))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * (total - step) / max(1, total - warmup)


@dataclass(frozen=True)
class EarlyStopping:
    """Stops when the watched loss has not fallen for some looks, and keeps the weights of the best one."""

    loss_of: Callable[[Any], float]
    """Model in evaluation mode -> loss on examples that are not trained on."""
    every: int
    """Batches between two looks."""
    patience: int
    """Looks without a new best before it stops."""


@dataclass
class _State:
    """Where a training stands; all of it goes into the checkpoint."""

    step: int = 0
    loss: float = 0.0
    best: float = math.inf
    waited: int = 0


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
    early_stopping: EarlyStopping | None = None,
) -> dict[str, Any]:
    """Trains in place the parameters that require a gradient.

    Args:
        model: torch module.
        lengths: tokens of each example; decides the batches.
        loss_of: (model, indices) -> scalar loss of those examples.
        work: folder for the checkpoint; a checkpoint there is resumed.

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
    state = _resume(work, prepared, optimizer)
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
                _keep_best(model, state, watched, work)
                stopped = state.waited >= early_stopping.patience
            if stopped or time.monotonic() - saved_at >= schedule.checkpoint_seconds:
                _save(work, prepared, optimizer, state)
                saved_at = time.monotonic()
            if stopped:
                break
    model.to("cpu").eval()
    facts = {"steps": state.step, "train_loss": round(state.loss, 5)}
    if early_stopping:
        if math.isfinite(state.best):  # no look found a number: the last weights are as good as any
            model.load_state_dict(_read(work / BEST)[0])
        facts["watched_loss"] = round(state.best, 5)
    return facts


def _is_due(step: int, every: int, accumulate: int) -> bool:
    """Whether a multiple of `every` lies in the last `accumulate` batches."""
    return step // every > (step - accumulate) // every


def _watched(model: Any, early_stopping: EarlyStopping) -> float:
    """The watched loss."""
    import torch

    model.eval()
    with torch.no_grad():
        watched = early_stopping.loss_of(model)
    model.train()
    return watched


def _keep_best(model: Any, state: _State, watched: float, work: Path) -> None:
    """Keeps the weights when their watched loss is the best so far."""
    state.waited += 1
    if watched < state.best:
        state.best, state.waited = watched, 0
        _write(work / BEST, model.state_dict(), {"step": state.step})


def _parameter_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and LayerNorm do not."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim < 2], "weight_decay": 0.0},
    ]


def _save(work: Path, model: Any, optimizer: Any, state: _State) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for place, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{name}": value for name, value in entry.items()}
    _write(work / CHECKPOINT, tensors, dataclasses.asdict(state))


def _write(file: Path, tensors: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Puts a whole safetensors file in place: after a power cut, too, there is the one before or this one."""
    from safetensors.torch import save_file

    partial = file.with_name(f"{file.name}.partial")
    whole = {name: value.contiguous() for name, value in tensors.items()}
    save_file(whole, partial, metadata={"edgebert": json.dumps(facts)})
    sync_folder(file.parent)
    partial.replace(file)


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and facts of a file that `_write` wrote.

    Raises:
        SafetensorError, LookupError, TypeError, ValueError, OSError: it is not there, damaged, or another program's.
    """
    from safetensors import safe_open

    if not file.is_file():
        raise FileNotFoundError(file)
    with safe_open(file, framework="pt") as opened:
        facts = json.loads(opened.metadata()["edgebert"])
        return {name: opened.get_tensor(name) for name in opened.keys()}, facts  # noqa: SIM118 - not a mapping


def _resume(work: Path, model: Any, optimizer: Any) -> _State:
    """Loads the checkpoint, if there is one of this training that is whole, the best weights too."""
    from safetensors import SafetensorError

    try:
        state, weights, moments = _checkpoint(work, model, optimizer)
    except (SafetensorError, LookupError, TypeError, ValueError, OSError):
        (work / BEST).unlink(missing_ok=True)  # it would be another beginning's
        return _State()  # a damaged checkpoint costs time, never the run
    model.load_state_dict(weights)
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return state


def _checkpoint(work: Path, model: Any, optimizer: Any) -> tuple[_State, dict[str, Any], dict[int, dict[str, Any]]]:
    """State, weights and the optimiser's moments, by the place of their parameter.

    Raises:
        ValueError and what `_read` raises: the checkpoint or the best weights that belong to it cannot be used.
    """
    tensors, facts = _read(work / CHECKPOINT)
    state = _State(**facts)
    weights = {name[6:]: value for name, value in tensors.items() if name.startswith("model.")}
    moments: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, place, field = name.split(".", 2)
            moments.setdefault(int(place), {})[field] = value
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if any(entry["exp_avg"].shape != trained[at].shape for at, entry in moments.items()):
        raise ValueError("the moments do not fit the parameters")
    for found in (weights, _read(work / BEST)[0]) if math.isfinite(state.best) else (weights,):
        if {name: value.shape for name, value in found.items()} != {n: v.shape for n, v in model.state_dict().items()}:
            raise ValueError("the weights do not fit the model")
    return state, weights, moments
