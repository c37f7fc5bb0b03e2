"""Interpreters that do something to the agent: given to a device as its `python`."""

from __future__ import annotations

import sys
from pathlib import Path

WRAPPER = """\
#!{python}
import os, runpy, signal, sys
if "-m" not in sys.argv:
    sys.exit(0)
{act}
sys.argv = ["agent"]
runpy.run_module("edgebert.devices.agent.agent", run_name="__main__")
"""
KILLED = """
def watch(name):
    act = getattr(os, name)
    def watched(source, target, **options):
        if {before} and os.fspath(target).endswith({ending!r}):
            os.kill(os.getpid(), signal.SIGKILL)
        act(source, target, **options)
        if os.fspath(target).endswith({ending!r}):
            os.kill(os.getpid(), signal.SIGKILL)
    setattr(os, name, watched)
watch("rename")
watch("replace")
"""
CLOCK = """
import datetime, time
now = {seconds}
time.time, time.time_ns = (lambda: float(now)), (lambda: now * 10**9)
class Wrong(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(now, tz)
datetime.datetime = Wrong
"""


def strange_python(place: Path, act: str) -> str:
    """An interpreter that first runs those lines."""
    place.write_text(WRAPPER.format(python=sys.executable, act=act))
    place.chmod(0o755)
    return str(place)


def killed_at(place: Path, ending: str, *, before: bool) -> str:
    """One that is killed, as by a power cut, before or after it renames something to a name with that ending."""
    return strange_python(place, KILLED.format(ending=ending, before=before))


def with_clock(place: Path, seconds: int) -> str:
    """One that believes that so many seconds have passed since 1970."""
    return strange_python(place, CLOCK.format(seconds=seconds))
