"""Models taking turns: small comparisons of latency, for choosing between graphs and settings of one target.

All models are open in one fresh process and serve the same few queries, one model after the other, round after round, so that
disturbances of the machine hit them alike. The ratio of two models is taken round by round.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgebert.measure.latency import turns_worker
from edgebert.measure.latency.process import run_once
from edgebert.measure.latency.turns_worker import Timings, Turn, TurnsJob
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Encoded


def take_turns(
    models: Sequence[tuple[Path, Target]], texts: Sequence[Encoded], *, pad_id: int, max_length: int, seconds: float
) -> Timings:
    """Times the models in one fresh process.

    Raises:
        StageError: the process failed; the message holds its last line.
    """
    job = TurnsJob(
        turns=tuple(Turn(model=str(file), target=target) for file, target in models),
        texts=tuple((text.ids, text.type_ids) for text in texts),
        pad_id=pad_id,
        max_length=max_length,
        seconds=seconds,
    )
    output = run_once(turns_worker, f"compares {len(models)} models", job=job.model_dump_json())
    return Timings.model_validate_json(output.splitlines()[-1])
