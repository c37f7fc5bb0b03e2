"""Checkpoints of a training: weights, optimiser state and step in safetensors, which hold no code.

A checkpoint that cannot be read, or that belongs to another training, is ignored: that costs time, never the run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebert.core.store import sync_folder

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"


@dataclass
class State:
    """Progress of a training, as the checkpoint holds it."""

    step: int = 0
    loss: float = 0.0
    best: float = math.inf
    waited: int = 0


def keep_best(model: Any, state: State, watched: float, work: Path) -> None:
    """Keeps the weights when their watched loss is the best so far."""
    state.waited += 1
    if watched < state.best:
        state.best, state.waited = watched, 0
        _write(work / BEST, model.state_dict(), {"step": state.step})


def best_weights(work: Path) -> dict[str, Any]:
    """The weights that `keep_best` kept last."""
    return _read(work / BEST)[0]


def save(work: Path, model: Any, optimizer: Any, state: State) -> None:
    """Replaces the checkpoint."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in entry.items()}
    _write(work / CHECKPOINT, tensors, dataclasses.asdict(state))


def _write(file: Path, tensors: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Replaces a safetensors file atomically: after a power cut, either the old or the new file is there whole."""
    from safetensors.torch import save_file

    partial = file.with_name(f"{file.name}.partial")
    whole = {name: value.contiguous() for name, value in tensors.items()}
    save_file(whole, partial, metadata={"edgebert": json.dumps(facts), "sha256": _digest(whole, facts)})
    sync_folder(file.parent)
    partial.replace(file)


def _digest(tensors: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """sha256 over facts, names and bytes: weights that were altered must not be learned from."""
    import torch

    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and facts of a file written by `_write`.

    Raises:
        SafetensorError, LookupError, TypeError, ValueError, OSError: the file is missing, damaged, or another program's.
    """
    from safetensors import safe_open

    if not file.is_file():
        raise FileNotFoundError(file)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
        facts = json.loads(metadata["edgebert"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    if metadata.get("sha256", "") not in ("", _digest(tensors, facts)):  # those of version 0.1 have none
        raise ValueError("the checkpoint was altered after it was written")
    return tensors, facts


def resume(work: Path, model: Any, optimizer: Any) -> State:
    """Loads this training's checkpoint into model and optimiser. Without a usable one, training starts anew."""
    from safetensors import SafetensorError

    try:
        state, weights, moments = _checkpoint(work, model, optimizer)
    except (SafetensorError, LookupError, TypeError, ValueError, OSError):
        (work / BEST).unlink(missing_ok=True)  # they belong to a training that cannot be resumed
        return State()
    model.load_state_dict(weights)
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return state


def _checkpoint(work: Path, model: Any, optimizer: Any) -> tuple[State, dict[str, Any], dict[int, dict[str, Any]]]:
    """State, weights, and the optimiser's moments by the index of their parameter.

    Raises:
        ValueError, and all that `_read` raises: the checkpoint or its best weights cannot be used.
    """
    tensors, facts = _read(work / CHECKPOINT)
    state = State(**facts)
    weights = {name[6:]: value for name, value in tensors.items() if name.startswith("model.")}
    moments: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, field = name.split(".", 2)
            moments.setdefault(int(index), {})[field] = value
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if any(entry["exp_avg"].shape != trained[at].shape for at, entry in moments.items()):
        raise ValueError("the moments do not fit the parameters")
    for stored in (weights, best_weights(work)) if math.isfinite(state.best) else (weights,):
        if {name: value.shape for name, value in stored.items()} != {n: v.shape for n, v in model.state_dict().items()}:
            raise ValueError("the weights do not fit the model")
    return state, weights, moments
