"""The process that serves one model and times it. Imports only what a device has.

The time of imports is measured, too: until the first answer only what serving needs is imported. The runtime is imported
before the process is pinned, as in a service: a library may choose its kernels by the cores that it finds at its import.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from edgebert.core.interrupts import end_with
from edgebert.errors import EdgebertError
from edgebert.measure.latency.first_answer import answer_first
from edgebert.measure.latency.job import RoundJob
from edgebert.measure.machine.cores import pin
from edgebert.runtimes import get_runtime
from edgebert.runtimes.isa import amx_granted, host_cpu, usable_isa


def main() -> int:
    """Reads a job from standard input, writes a round to standard output. Returns the exit code."""
    end_with(int(sys.argv[1]))
    given = sys.stdin.read()
    write = _line_writer()
    try:
        job = RoundJob.model_validate_json(given)
        get_runtime(job.target.runtime).import_package()
        cores = pin(job.pin)
        opened = answer_first(job)
        from edgebert.measure.latency.timed import measure

        measured = measure(job, opened, lambda seconds: write({"lasts_s": seconds}))
        isa = usable_isa(host_cpu(), amx_granted())
        write(measured.model_copy(update={"pinned": cores, "isa": isa}).model_dump(mode="json"))
    except EdgebertError as error:
        write({"failure": error.message, "hint": error.hint})
        return error.exit_code
    return 0


def _line_writer() -> Callable[[dict[str, Any]], None]:
    """A function that writes a line of JSON to the parent; what libraries print goes to standard error instead."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def write(facts: dict[str, Any]) -> None:
        stream.write(json.dumps(facts) + "\n")
        stream.flush()

    return write


if __name__ == "__main__":
    sys.exit(main())
