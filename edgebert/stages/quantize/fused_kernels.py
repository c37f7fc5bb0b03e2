"""Whether OpenVINO's fused kernels answer as its plain ones do, asked of each graph that was quantised for it.

A fused kernel that leaves memory unwritten answers otherwise at each load, and no gate sees that: the load that was scored may
have been a lucky one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgebert.errors import StageError
from edgebert.runtimes.openvino import OpenVinoSession
from edgebert.stages.quantize.settings import Settings
from edgebert.tasks.base import collate

ROWS = 4
"""Calibration rows that are asked."""
ALLOWED = 0.05
"""Largest difference of an output, relative to the largest output where that exceeds 1: rounding to INT8 steps may turn."""


def require_same_answers(model: Path, settings: Settings) -> None:
    """Compares the answers of a graph with and without fused kernels, at FP32 precision and one thread.

    Raises:
        StageError: they differ.
    """
    fused, plain = (OpenVinoSession(model, 1, "f32", fused=fused) for fused in (True, False))
    for item in settings.calibration[:ROWS]:
        batch = collate([item], length=len(item), pad_id=0)
        found, wanted = fused.predict(batch), plain.predict(batch)
        for name, value in wanted.items():
            difference = float(np.abs(found[name] - value).max())
            if not difference <= ALLOWED * max(1.0, float(np.abs(value).max())):
                raise StageError(
                    f"OpenVINO runs this INT8 graph wrong: its fused kernels change its {name} by {difference:.2g}.",
                    hint="Take the target {runtime: onnxruntime}, or another version of OpenVINO.",
                )
