"""Installs a bundle again and again, and breaks off at another call to the system each time: `broken_off.py JOB`.

The job is JSON: `template` (a root), `place` (where copies of it go), `request` (of the installation), `how` (kill: the process
is killed before the call; fail: the call raises a full disk), `op` (install or rollback), `again` (at how many calls of what
undoes it the process is killed as well), `finish_every` (after how many runs the installation is asked for again). One line of
JSON for each call:

    call       number and name of the call
    served     content of the folder that `current` leads to right after; None if there is none
    settled    content of slots and link after the next request has begun
    finished   the same after an installation has ended

Nothing is measured: a trial that passes stands in for that. All runs are forks of this process, which has no threads.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents import tree

from edgebert.bundle.device_folder import Root, resolve
from edgebert.bundle.manifest import BundleManifest
from edgebert.devices.agent import install as module
from edgebert.devices.agent.lock import at_work
from edgebert.devices.agent.protocol import Install, Tried
from edgebert.devices.agent.switch import roll_back
from edgebert.devices.agent.trial import VariantOutcome
from edgebert.devices.agent.wire import EventLines
from edgebert.report.file import read_report

CALLS = ("replace", "rename", "link", "symlink", "unlink", "rmdir", "mkdir", "fsync", "chmod")
NOT_REACHED, DONE = 7, 0


class Breaker:
    """Counts calls to the system and breaks off at one of them."""

    def __init__(self, at: int, how: str, pipe: int) -> None:
        self.at, self.how, self.pipe, self.count = at, how, pipe, 0
        for name in CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                os.write(self.pipe, name.encode())
                if self.how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments, **options)

        return call


def passing(folder: Path, manifest: BundleManifest, *_: Any) -> VariantOutcome:
    """A trial that passes without measuring anything."""
    best = next(item for item in manifest.variants if item.role == "candidate")
    tried = Tried(variant=best.name, self_test="ok", p50_ms=1.0, p90_ms=None, passed=True, reason="stands in")
    return VariantOutcome((tried,), best, 1.0, read_report(folder / "report.json"))


def forked(work: Callable[[], object]) -> int:
    """Runs a function in a fork. Returns the exit code; minus the signal's number if a signal ended it."""
    child = os.fork()
    if child == 0:
        code = DONE
        try:
            code = int(work() or DONE)  # type: ignore[call-overload]
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            code = 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def working(root: Root, op: str, request: Install) -> None:
    with at_work(root, op):
        if op == "install":
            module.install(root, request, EventLines(lambda line: None))
        elif op == "rollback":
            roll_back(root)


def breaking_off(at: int, how: str, act: Callable[[Breaker], object]) -> tuple[int, str]:
    """Acts in a fork until it breaks off at a call. Returns the exit code and the call."""
    reader, writer = os.pipe()

    def work() -> int:
        breaker = Breaker(at, how, writer)
        try:
            act(breaker)
        except Exception:
            if breaker.count < at:
                raise
        return NOT_REACHED if breaker.count < at else DONE

    code = forked(work)
    os.close(writer)
    call = os.read(reader, 100).decode()
    os.close(reader)
    return code, call


def broken(root: Root, job: dict[str, Any], request: Install, at: int, op: str | None = None) -> tuple[int, str]:
    """Runs the operation until it breaks off at a call. Returns the exit code and the call."""
    return breaking_off(at, job["how"], lambda _: working(root, op or job["op"], request))


def lasting(root: Root) -> dict[str, str]:
    """Contents of slots and link, without the time of installation, which differs each time."""
    found = {name: content for name, content in tree(root.folder).items() if name.startswith(("slots", "current"))}
    for name in ("a", "b"):
        if root.record(name).is_file():  # type: ignore[arg-type]
            found[f"slots/{name}.json"] = json.loads(root.record(name).read_text())["manifest"]  # type: ignore[arg-type]
    leftovers = [name for name in tree(root.folder) if name.startswith(("staging", "switching")) or ".draft" in name]
    return found | dict.fromkeys(leftovers, "left over")


def served(root: Root) -> dict[str, str] | None:
    """Content of the slot that a load finds now, whose record must be valid."""
    if root.serving() is None:
        return None
    folder, variant = resolve(root.folder)
    assert variant
    return tree(folder)


def main() -> None:
    """Runs the job and writes its lines."""
    job = json.loads(sys.argv[1])
    request = Install.model_validate(job["request"])
    module.hold_trial = passing  # type: ignore[assignment]
    for at in itertools.count(1):
        root = Root(Path(shutil.copytree(job["template"], Path(job["place"]) / str(at), symlinks=True)))
        code, call = broken(root, job, request, at)
        if code == NOT_REACHED:
            break
        assert code == (-signal.SIGKILL if job["how"] == "kill" else DONE), code
        said: dict[str, Any] = {"call": f"{at} {call}", "served": served(root)}
        for again in range(1, job["again"] + 1):  # what undoes it is broken off as well
            if broken(root, job, request, again, "look")[0] == NOT_REACHED:
                break
            said["served"] = said["served"] if served(root) == said["served"] else "changed"
        assert forked(lambda root=root: working(root, "look", request)) == DONE  # type: ignore[misc]
        said["settled"] = lasting(root)
        if at % job["finish_every"] == 0:
            assert forked(lambda root=root: working(root, "install", request)) == DONE  # type: ignore[misc]
            said["finished"] = lasting(root)
        sys.stdout.write(json.dumps(said) + "\n")
        shutil.rmtree(root.folder)


if __name__ == "__main__":
    main()
