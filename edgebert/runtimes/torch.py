"""PyTorch: the reference that exports are checked against. Not a target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgebert.errors import SourceError
from edgebert.runtimes.base import Array, Runtime, Session
from edgebert.runtimes.target import Target


class TorchSession(Session):
    """A model in evaluation mode, FP32."""

    def __init__(self, folder: Path, auto_class: str) -> None:
        import torch
        import transformers

        loader = getattr(transformers, auto_class)
        self._torch = torch
        options = {"dtype": torch.float32, "local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
        try:
            self._model = loader.from_pretrained(folder, **options).eval()
        except Exception as error:  # torch, transformers and safetensors each have classes of their own for a bad file
            raise SourceError(f"torch cannot open {folder}: {(str(error).splitlines() or [''])[0]}") from error

    def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one batch."""
        with self._torch.inference_mode():
            outputs = self._model(**{name: self._torch.from_numpy(value) for name, value in batch.items()})
        return {name: np.asarray(value) for name, value in outputs.items()}


class Torch(Runtime):
    """Opens a Transformers folder."""

    name = "torch"
    format = "transformers"
    model_file = "."
    package = "torch"
    extra = "compress"

    def __init__(self, auto_class: str = "AutoModelForSequenceClassification") -> None:
        self._auto_class = auto_class

    def open(self, model: Path, target: Target) -> Session:
        """Opens a folder of safetensors."""
        self.require()
        return TorchSession(model, self._auto_class)
