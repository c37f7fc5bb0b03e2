"""Mutations of a model folder: its configuration, its tokenizer and its weights."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robust.changes import MANY, Mutation, in_bytes, in_json, nested, replaced, special


def tensors(change: Callable[[dict[str, Any], random.Random], object]) -> Callable[[Path, random.Random], object]:
    """Changes the weights of the model."""

    def changed(folder: Path, draw: random.Random) -> object:
        from safetensors.numpy import load_file, save_file

        weights = {name: value.copy() for name, value in load_file(folder / "model.safetensors").items()}
        done = change(weights, draw)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return done

    return changed


def _drop(weights: dict[str, Any], draw: random.Random) -> str:
    name = draw.choice(sorted(name for name in weights if "position_ids" not in name))
    del weights[name]
    return name


def _rename(weights: dict[str, Any], draw: random.Random) -> str:
    name = draw.choice(sorted(weights))
    weights[draw.choice(("module.", "_orig_mod.", "base_model.model.", "x")) + name] = weights.pop(name)
    return name


def _extra(weights: dict[str, Any], draw: random.Random) -> str:
    import numpy as np

    name = draw.choice(("bert.encoder.layer.2.output.dense.weight", "bert.encoder.layer.0.adapter.weight", "classifier.SCB"))
    weights[name] = np.zeros((3, 3), np.float32)
    return name


def _reshape(weights: dict[str, Any], draw: random.Random) -> str:
    name = draw.choice(sorted(name for name, value in weights.items() if value.ndim == 2))
    weights[name] = weights[name][:-1].copy()
    return name


def _nan(weights: dict[str, Any], draw: random.Random) -> str:
    name = draw.choice(sorted(name for name, value in weights.items() if value.dtype.kind == "f" and value.size))
    weights[name].reshape(-1)[draw.randrange(weights[name].size)] = draw.choice((float("nan"), float("inf")))
    return name


def header(text: str) -> bytes:
    """A safetensors file that is only a header."""
    return len(text.encode()).to_bytes(8, "little") + text.encode()


def config(**fields: Any) -> Callable[[Path, random.Random], object]:
    """Other values in config.json."""

    def change(folder: Path, draw: random.Random) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))

    return change


MODEL = (
    *(Mutation(f"a value of {name}", in_json(name)) for name in ("config.json", "tokenizer.json", "tokenizer_config.json")),
    *(Mutation(f"bytes of {name}", in_bytes(name)) for name in ("config.json", "tokenizer.json")),
    Mutation("the header of model.safetensors", lambda folder, draw: _header_bytes(folder / "model.safetensors", draw)),
    *(Mutation(f"{name} is no file", special(name), True) for name in ("config.json", "tokenizer.json", "model.safetensors")),
    Mutation("a tensor is gone", tensors(_drop), True),
    Mutation("a tensor has another name", tensors(_rename), True),
    Mutation("a tensor too many", tensors(_extra), True),
    Mutation("a tensor of another shape", tensors(_reshape), True),
    Mutation("a weight that is no number", tensors(_nan), True),
    Mutation("10^10 labels", config(num_labels=10**10, id2label=None), True),
    Mutation("10^9 layers", config(num_hidden_layers=10**9), True),
    Mutation("hidden size of 10^9", config(hidden_size=10**9), True),
    Mutation("nested config", replaced("config.json", nested(MANY)), True),
    Mutation("nested header", replaced("model.safetensors", header('{"a": ' + nested(MANY) + "}")), True),
    Mutation("a header of 10^18 bytes", replaced("model.safetensors", (10**18).to_bytes(8, "little") + b"{}"), True),
    Mutation(
        "a bad regular expression",
        lambda folder, draw: _normaliser(folder, {"type": "Replace", "pattern": {"Regex": "(((("}, "content": ""}),
        True,
    ),
    Mutation("chained normalisers", lambda folder, draw: _normaliser(folder, _chain(MANY)), True),
)


def _header_bytes(file: Path, draw: random.Random) -> str:
    content = bytearray(file.read_bytes())
    at = draw.randrange(8 + int.from_bytes(content[:8], "little"))
    content[at] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    return f"flip at {at}"


def _chain(depth: int) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * depth}


def _normaliser(folder: Path, made: dict[str, Any]) -> None:
    tree = json.loads((folder / "tokenizer.json").read_text())
    tree["normalizer"] = made
    (folder / "tokenizer.json").write_text(json.dumps(tree))
