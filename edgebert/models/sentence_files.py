"""Writes the files of a sentence-transformers folder, in the form that its version 2 and all later ones read. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgebert.models.sentence_folder import FORMER, LENGTH, MODULES, SETTINGS, DenseLayer

TYPES = "sentence_transformers.models."
"""What types of modules begin with in every version."""


def write_modules(folder: Path, pooling: str, dense: Sequence[DenseLayer], *, width: int, normalize: bool) -> None:
    """Writes modules.json and 1_Pooling/config.json; those of Dense layers come with their weights.

    Args:
        width: of the vectors that are pooled.
    """
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {key: mode == pooling for key, mode in FORMER.items()}
    _dump(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **modes, "include_prompt": True})
    named = [("Transformer", ""), ("Pooling", "1_Pooling"), *(("Dense", layer.folder) for layer in dense)]
    named += [("Normalize", f"{len(named)}_Normalize")] if normalize else []
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": TYPES + kind} for index, (kind, path) in enumerate(named)
    ]
    _dump(folder / MODULES, modules)


def dense_config(layer: DenseLayer) -> dict[str, Any]:
    """The config.json of a Dense layer."""
    return {
        "in_features": layer.inputs,
        "out_features": layer.outputs,
        "bias": layer.bias,
        "activation_function": layer.activation,
    }


def write_settings(folder: Path, prompts: Mapping[str, str], prompt: str | None, max_length: int) -> None:
    """Writes prompts and the longest text.

    Args:
        prompt: name of the default prompt.
        max_length: in tokens.
    """
    _dump(folder / LENGTH, {"max_seq_length": max_length, "do_lower_case": False})
    settings = {"prompts": dict(prompts), "default_prompt_name": prompt, "similarity_fn_name": "cosine"}
    _dump(folder / SETTINGS, settings)


def _dump(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
