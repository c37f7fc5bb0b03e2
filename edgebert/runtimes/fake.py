"""A runtime without a model, for tests: its outputs depend on the tokens alone, and it can be made slow."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgebert.runtimes.base import Array, Runtime, Session
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
    format = "fake"
    model_file = "model.fake"
    package = "numpy"
    extra = "compress"

    def __init__(self, seconds_per_token: float = 0.0) -> None:
        self._seconds_per_token = seconds_per_token

    def open(self, model: Path, target: Target) -> Session:
        """Opens nothing."""
        return FakeSession(self._seconds_per_token)


class Slowed(Session):
    """Takes (1 + share) times as long as the session within it. Its answers are the same."""

    def __init__(self, session: Session, share: float) -> None:
        self._session = session
        self._share = share

    def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one batch, then waits in proportion to the time that it took."""
        started = time.perf_counter_ns()
        outputs = self._session.predict(batch)
        ended = time.perf_counter_ns()
        wait_until(ended + int((ended - started) * self._share))
        return outputs

    def prepare(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Prepares the session within it."""
        self._session.prepare(shapes)


AWAKE_NS = 200_000
"""Of the wait: the kernel wakes a sleeper 50 us late by default (PR_SET_TIMERSLACK in prctl(2)), and later on a busy core."""


def wait_until(moment_ns: int) -> None:
    """Returns at a moment of time.perf_counter_ns, at once where it has passed."""
    clock = time.perf_counter_ns
    left = moment_ns - clock()
    if left > AWAKE_NS:
        time.sleep((left - AWAKE_NS) / 1e9)
    while clock() < moment_ns:
        let_others_run()


def let_others_run() -> None:
    """Gives up Python's lock for an instant; a loop that keeps it would hold up threads whose answers are ready."""
    if os.name == "posix":
        select.select((), (), (), 0)  # sleep(0) takes the 50 us of slack as well
    else:
        time.sleep(0)
