"""Models taking turns: small comparisons of latency, for choosing between graphs and settings of one target.

All models are open in one fresh process and serve the same few queries, one model after the other, round after round, so that
what disturbs the machine disturbs them alike. The ratio of two models is taken round by round.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgebert.errors import StageError
from edgebert.measure.latency import turns_worker
from edgebert.measure.latency.process import module_command
from edgebert.measure.latency.turns_worker import Timings, Turn, TurnsJob
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Encoded


def take_turns(
    models: Sequence[tuple[Path, Target]],
    texts: Sequence[Encoded],
    *,
    pad_id: int,
    max_length: int,
    seconds: float,
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
    command = module_command(turns_worker)
    done = subprocess.run(command, input=job.model_dump_json(), capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StageError(f"The process that compares {len(models)} models ended with code {done.returncode}: {last}")
    return Timings.model_validate_json(done.stdout.splitlines()[-1])
