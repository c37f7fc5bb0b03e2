"""PyTorch: runs a Transformers folder as it is, to compare a bundle with. Not a target of a recipe."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.errors import SourceError
from edgebert.models.families import find_family
from edgebert.runtimes.base import Array, Held, Runtime, Session
from edgebert.runtimes.target import Target

AUTO_CLASSES = {
    f"For{head}": f"AutoModelFor{head}"
    for head in ("SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM")
}
"""Ending of the class name in config.json -> the Auto class that opens it; any other model is opened without a head."""


class TorchSession(Session):
    """A model in evaluation mode, FP32. All sessions of a process share one number of threads, set by the one opened last."""

    def __init__(self, folder: Path, threads: int) -> None:
        import torch

        self._torch = torch
        torch.set_num_threads(threads)
        try:
            self._model = _load(folder)
        except SourceError:
            raise
        except Exception as error:  # torch, transformers and safetensors each have classes of their own for a bad file
            raise SourceError(f"torch cannot open {folder}: {(str(error).splitlines() or [''])[0]}") from error
        family = find_family(self._model.config.model_type)
        segments = getattr(self._model.config, "type_vocab_size", None)
        self._inputs = set(family.inputs_for(segments) if family else inspect.signature(self._model.forward).parameters)

    def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one batch."""
        feeds = {name: self._torch.from_numpy(value) for name, value in batch.items() if name in self._inputs}
        with self._torch.inference_mode():
            outputs = self._model(**feeds)
        return {name: np.asarray(value) for name, value in outputs.items()}


def _load(folder: Path) -> Any:
    import transformers

    from edgebert.models.load import open_folder

    named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or [""]
    loader = getattr(transformers, next((AUTO_CLASSES[end] for end in AUTO_CLASSES if named[0].endswith(end)), "AutoModel"))
    return open_folder(folder, loader).eval()


class Torch(Runtime):
    """Opens a Transformers folder."""

    name = "torch"
    title = "PyTorch"
    format = "transformers"
    model_file = "."
    package = "torch"
    extra = "compress"

    def open(self, model: Path, target: Target, held: Held | None = None) -> Session:
        """Opens a folder of safetensors, of which no bundle has copies."""
        self.require()
        return TorchSession(model, target.threads)
