"""Processes in a PID namespace of their own, as in a container: each is process 1 there, and sees no other."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

COMMAND = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def need_containers() -> None:
    """Skips the test where this user may not make PID namespaces."""
    if not sys.platform.startswith("linux") or not shutil.which("unshare"):
        pytest.skip("PID namespaces are made with unshare, on Linux")
    done = subprocess.run([*COMMAND, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this user cannot make a PID namespace: {done.stderr.strip()}")


def in_container(script: str, *arguments: object) -> str:
    """The output of a script that runs to its end in a container."""
    command = [*COMMAND, sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextlib.contextmanager
def at_work(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Runs a script in a container until it has written a line; it is killed at the end, unless it was before."""
    command = [*COMMAND, sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None and process.stdout.readline()
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    """Kills it and what it started, and waits until they are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
