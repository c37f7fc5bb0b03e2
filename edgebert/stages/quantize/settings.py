"""What every quantisation method is told."""

from __future__ import annotations

from dataclasses import dataclass

from edgebert.tasks.base import Encoded


@dataclass(frozen=True)
class Settings:
    """Common settings. `calibration` is empty for methods that do not calibrate."""

    per_channel: bool
    embeddings: bool
    calibration: tuple[Encoded, ...]

    def batches(self) -> list[dict[str, object]]:
        """Calibration examples one by one, each of its own length: padding would enter the ranges."""
        from edgebert.tasks.base import collate

        return [dict(collate([item], length=len(item), pad_id=0)) for item in self.calibration]
