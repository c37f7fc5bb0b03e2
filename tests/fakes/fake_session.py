"""A runtime without a model, for tests: its outputs depend on the tokens alone, and it can be made slow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgebert.runtimes.base import Array, Held, Runtime, Session
from edgebert.runtimes.target import Target


class FakeSession(Session):
    """Two logits, from the sum of the token ids."""

    def __init__(self, seconds_per_token: float = 0.0) -> None:
        self._seconds_per_token = seconds_per_token

    def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Returns logits of shape (batch, 2)."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        if self._seconds_per_token:
            time.sleep(self._seconds_per_token * ids.size)
        total = (ids * mask).sum(axis=-1)
        return {"logits": np.stack([np.sin(total), np.cos(total)], axis=-1).astype(np.float32)}


class Fake(Runtime):
    """Opens anything."""

    name = "fake"
    title = "Fake"
    format = "fake"
    model_file = "model.fake"
    package = "numpy"
    extra = "compress"

    def __init__(self, seconds_per_token: float = 0.0) -> None:
        self._seconds_per_token = seconds_per_token

    def open(self, model: Path, target: Target, held: Held | None = None) -> Session:
        """Opens nothing."""
        return FakeSession(self._seconds_per_token)
