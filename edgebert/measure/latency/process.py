"""A process that measures: told one line, heard while it works, ended when it goes silent or when we are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from types import ModuleType
from typing import Any

from edgebert.core.progress import format_seconds
from edgebert.errors import StageError

SILENCE_S = 600.0
"""That a process may take for anything, on top of what it said it would take."""
MARGIN = 10
"""Times as long as it said."""
LOOK_S = 2.0
"""Between two looks at what it said: waking up more often would disturb it."""


def module_command(module: ModuleType, *arguments: object) -> list[str]:
    """The command that runs a module of this package in a fresh interpreter.

    -P keeps the modules of the folder where it starts out of the way: a home may hold a random.py.
    """
    return [sys.executable, "-P", "-m", module.__name__, *map(str, arguments)]


def run_worker(module: ModuleType, job: str, subject: str) -> str:
    """Starts a module in a fresh process, gives it the job on its standard input, and returns its last line.

    A process that expects to work for long says so in a line `{"lasts_s": seconds}`.

    Args:
        module: is told our process id as its argument, so that it can end with us.
        subject: what it does, for messages: `measures model.onnx`.

    Raises:
        StageError: it failed, was ended, or went silent. However this function is left, the process is gone.
    """
    command = module_command(module, os.getpid())
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, errors = _heard(process, job.encode(), subject)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close() if stream else None
    lines = out.decode(errors="replace").splitlines()
    if process.returncode:
        raise _fault(process.returncode, lines, errors.decode(errors="replace"), subject)
    if not lines:
        raise StageError(f"The process that {subject} ended without a result.")
    return lines[-1]


def _heard(process: subprocess.Popen[bytes], told: bytes, subject: str) -> tuple[bytes, bytes]:
    """All that it writes, until it ends."""
    heard, allowed, since = 0, SILENCE_S, time.monotonic()
    to_tell: bytes | None = told
    while True:
        try:
            return process.communicate(to_tell, timeout=min(LOOK_S, allowed))
        except subprocess.TimeoutExpired as waiting:
            to_tell = None  # communicate() remembers what it could not write yet
            lines = (waiting.output or b"").splitlines(keepends=True)
        if len(lines) > heard:
            heard, since = len(lines), time.monotonic()
            allowed = SILENCE_S + MARGIN * _lasts(lines[-1])
        if time.monotonic() - since > allowed:
            hint = "Is the machine out of memory, or the model far too slow for so many queries?"
            raise StageError(f"The process that {subject} gave no sign of life for {format_seconds(allowed)}.", hint=hint)


def _lasts(line: bytes) -> float:
    lasts = _read(line).get("lasts_s")
    return float(lasts) if isinstance(lasts, int | float) else 0.0


def _read(line: str | bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _fault(code: int, lines: list[str], errors: str, subject: str) -> StageError:
    """In one sentence: what it said of its failure itself, or its last line on standard error."""
    if code < 0:
        hint = "The system ends processes so when it runs out of memory." if code == -signal.SIGKILL else None
        return StageError(f"The process that {subject} was ended by {signal.Signals(-code).name}.", hint=hint)
    said = _read(lines[-1]) if lines else {}
    last = said.get("failure") or (errors.strip().splitlines() or ["no message"])[-1]
    return StageError(f"The process that {subject} ended with code {code}: {last}", hint=said.get("hint"))
