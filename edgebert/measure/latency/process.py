"""Starts processes that measure, reads their results, and ends them when they go silent or when this process ends."""

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
"""Seconds that a process may be silent, on top of what it announced."""
MARGIN = 10
"""Factor on the seconds that a process announces."""
LOOK_S = 2.0
"""Seconds between two reads of its output: waking up more often would disturb it."""


def module_command(module: ModuleType, *arguments: object) -> list[str]:
    """The command that runs a module of this package in a fresh interpreter.

    -P keeps the current folder off the import path: a home may hold a random.py.
    """
    return [sys.executable, "-P", "-m", module.__name__, *map(str, arguments)]


def run_worker(module: ModuleType, job: str, action: str) -> str:
    """Starts a module in a fresh process, gives it the job on its standard input, and returns its last line of output.

    A process that expects to work for long announces it in a line `{"lasts_s": seconds}`.

    Args:
        module: gets this process's id as its argument, so that it can end with this process.
        action: what it does, for messages: `measures model.onnx`.

    Raises:
        StageError: it failed, was ended, or went silent. However this function is left, the process is gone.
    """
    command = module_command(module, os.getpid())
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, errors = _read_output(process, job.encode(), action)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close() if stream else None
    lines = out.decode(errors="replace").splitlines()
    if process.returncode:
        raise _fault(process.returncode, lines, errors.decode(errors="replace"), action)
    if not lines:
        raise StageError(f"The process that {action} ended without a result.")
    return lines[-1]


def _read_output(process: subprocess.Popen[bytes], job: bytes, action: str) -> tuple[bytes, bytes]:
    """Everything that it writes, until it ends."""
    seen, allowed, since = 0, SILENCE_S, time.monotonic()
    to_send: bytes | None = job
    while True:
        try:
            return process.communicate(to_send, timeout=min(LOOK_S, allowed))
        except subprocess.TimeoutExpired as waiting:
            to_send = None  # communicate() remembers what it could not write yet
            lines = (waiting.output or b"").splitlines(keepends=True)
        if len(lines) > seen:
            seen, since = len(lines), time.monotonic()
            allowed = SILENCE_S + MARGIN * _lasts(lines[-1])
        if time.monotonic() - since > allowed:
            hint = "Is the machine out of memory, or the model far too slow for so many queries?"
            raise StageError(f"The process that {action} gave no sign of life for {format_seconds(allowed)}.", hint=hint)


def _lasts(line: bytes) -> float:
    lasts = _read(line).get("lasts_s")
    return float(lasts) if isinstance(lasts, int | float) else 0.0


def _read(line: str | bytes) -> dict[str, Any]:
    try:
        facts = json.loads(line)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _fault(code: int, lines: list[str], errors: str, action: str) -> StageError:
    """One sentence with the failure that the process reported, or its last line on standard error."""
    if code < 0:
        hint = "The system ends processes so when it runs out of memory." if code == -signal.SIGKILL else None
        return StageError(f"The process that {action} was ended by {signal.Signals(-code).name}.", hint=hint)
    facts = _read(lines[-1]) if lines else {}
    reason = facts.get("failure") or _last_line(errors)
    return StageError(f"The process that {action} ended with code {code}: {reason}", hint=facts.get("hint"))


def run_once(module: ModuleType, action: str, *arguments: object, job: str = "") -> str:
    """Runs a module that takes seconds in a fresh process, with the job on its standard input, and returns its output.

    Args:
        action: what it does, for messages: `times a fixed piece of work`.

    Raises:
        StageError: it failed; the message holds its last line on standard error.
    """
    command = module_command(module, *arguments)
    done = subprocess.run(command, input=job, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(f"The process that {action} ended with code {done.returncode}: {_last_line(done.stderr)}")
    return done.stdout


def _last_line(errors: str) -> str:
    return (errors.strip().splitlines() or ["no message"])[-1]
