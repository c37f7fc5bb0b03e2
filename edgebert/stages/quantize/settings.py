"""Settings that every quantisation method receives beside its own parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgebert.tasks.base import Encoded, Task

if TYPE_CHECKING:
    from edgebert.stages.scorer import Scorer


@dataclass(frozen=True)
class Settings:
    """What a run gives to a method."""

    calibration: tuple[Encoded, ...] = ()
    """Empty for methods that do not calibrate."""
    embeddings: bool = True
    """Whether embedding tables are quantised too."""
    excluded_nodes: tuple[str, ...] = ()
    """Names of nodes, as `export` gives them, that stay FP32."""
    task: Task | None = None
    score: Scorer | None = None
    """Computes the task's first metric on the rows that choose, for methods that use the score."""
    labels: tuple[str, ...] = ()

    def batches(self) -> list[dict[str, object]]:
        """Calibration examples one by one, each of its own length: padding would enter the ranges."""
        from edgebert.tasks.base import collate

        return [dict(collate([item], length=len(item), pad_id=0)) for item in self.calibration]
