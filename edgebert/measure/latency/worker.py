"""The process that serves one model and times it. Imports only what a device has.

When something is imported is part of what is measured: until the first answer only what serving needs, and before any of it
the process is pinned, for threads keep to the cores that they were started on.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgebert.errors import EdgebertError
from edgebert.measure.latency.first_answer import answer_first
from edgebert.measure.latency.parent import end_with
from edgebert.measure.machine.cores import pin

if TYPE_CHECKING:
    pass


def main() -> int:
    """Reads a job from standard input, writes a round to standard output. Returns the exit code."""
    end_with(int(sys.argv[1]))
    told = sys.stdin.read()
    say = _voice()
    try:
        cores = pin(json.loads(told)["pin"])
        from edgebert.measure.latency.job import RoundJob

        job = RoundJob.model_validate_json(told)
        opened = answer_first(job)
        from edgebert.measure.latency.timed import measure

        found = measure(job, opened, lambda seconds: say({"lasts_s": seconds}))
        say(found.model_copy(update={"pinned": cores}).model_dump(mode="json"))
    except EdgebertError as error:
        say({"failure": error.message, "hint": error.hint})
        return error.exit_code
    return 0


def _voice() -> Callable[[dict[str, Any]], None]:
    """Writes a line of JSON to the parent, who hears nothing else: what libraries print goes to standard error."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(facts: dict[str, Any]) -> None:
        stream.write(json.dumps(facts) + "\n")
        stream.flush()

    return say


if __name__ == "__main__":
    sys.exit(main())
