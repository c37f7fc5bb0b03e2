"""finished: models and scores that a prune stage keeps in its work folder, so that a killed run continues from there.

A power cut may leave half a file. An entry that cannot be read is made again: that costs time, never the run.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebert.core.artifact import content_hash, hash_folder, sync_folder
from edgebert.errors import SourceError
from edgebert.models.load import load_model, save_model
from edgebert.tasks.base import Task

SEAL = ".sha256"
"""File with the hash of a model's other files; those of version 0.1 have none."""


@dataclass(frozen=True)
class Finished:
    """Models and scores by name. Each is flushed to disk before it gets its final name."""

    folder: Path
    task: Task

    def model(self, name: str) -> Any | None:
        """The model of that name; None where there is none that can be read, or it was altered after it was written."""
        folder = self.folder / name
        if not folder.is_dir() or ((folder / SEAL).is_file() and (folder / SEAL).read_bytes() != _hash(folder)):
            return None
        try:
            return load_model(folder, self.task)
        except SourceError:
            return None

    def keep_model(self, name: str, model: Any) -> None:
        """Writes a model, and replaces one that cannot be read."""
        partial = self.folder / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        save_model(model, partial)
        (partial / SEAL).write_bytes(_hash(partial))
        sync_folder(partial)
        self.drop(name)
        partial.replace(self.folder / name)

    def score(self, name: str) -> float | None:
        """The score of that name; None where there is none that can be read."""
        try:
            return float(json.loads((self.folder / f"{name}.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def keep_score(self, name: str, score: float) -> None:
        """Writes a score."""
        partial = self.folder / f"{name}.partial"
        with partial.open("w") as file:
            json.dump(score, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.folder / f"{name}.json")

    def drop(self, *names: str) -> None:
        """Removes models, scores and folders of checkpoints of these names, if they exist."""
        for name in names:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / f"{name}.json").unlink(missing_ok=True)


def _hash(folder: Path) -> bytes:
    files = hash_folder(folder)
    return content_hash({name: entry for name, entry in files.items() if name != SEAL}).encode()
