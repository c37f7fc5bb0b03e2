"""Interpreters that change the agent that they run, for the `python` of a device."""

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


def strange_python(file: Path, act: str) -> str:
    """An interpreter that runs these lines before the agent."""
    file.write_text(WRAPPER.format(python=sys.executable, act=act))
    file.chmod(0o755)
    return str(file)


def killed_at(file: Path, ending: str, *, before: bool) -> str:
    """An interpreter that is killed, as by a power cut, before or after it renames something to a name with this ending."""
    return strange_python(file, KILLED.format(ending=ending, before=before))
