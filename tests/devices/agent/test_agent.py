"""An agent ends together with its workstation, prints only events, and leaves no process running."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import AGENT, IMPATIENT, ask, files_of, install, send, ship, tree
from bundles import renamed, small_bundle
from device_process import WITHOUT, WORKSTATION
from processes import alive, wait_for
from processes import measuring as measuring_of

LONG = {"rounds": 10_000, "queries": 2_000, "warmup": 1}


@pytest.fixture(scope="module")
def shipped(model_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A root where one bundle serves and another has arrived, and that one. Do not write into them."""
    folder, bundle = tmp_path_factory.mktemp("agent"), small_bundle(model_template)
    second = renamed(bundle, folder / "second", "second")
    assert ship(folder / "device", bundle).value["outcome"] == "switched"
    send(folder / "device", second)
    return folder / "device", second


@pytest.fixture
def root(shipped: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the root, for one test."""
    return Path(shutil.copytree(shipped[0], tmp_path / "device", symlinks=True))


class Measuring:
    """An agent that measures for long, over pipes or, as sshd does it, over a pair of sockets."""

    def __init__(self, root: Path, bundle: Path, *, sockets: bool) -> None:
        request = {"op": "install", "root": str(root), "device": "attic", "files": files_of(bundle), "trial": LONG}
        self.ours, theirs = socket.socketpair() if sockets else (None, None)
        ends: Any = theirs.fileno() if theirs else subprocess.PIPE
        self.process = subprocess.Popen(AGENT, stdin=ends, stdout=ends, stderr=subprocess.DEVNULL)
        if theirs:
            theirs.close()
        self._tell(json.dumps(request).encode() + b"\n")
        self.worker: int = min(wait_for(lambda: measuring_of(self.process.pid)))

    def _tell(self, line: bytes) -> None:
        if self.ours:
            self.ours.sendall(line)
            return
        assert self.process.stdin
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def leave(self) -> None:
        """The workstation goes away."""
        for end in (self.ours, self.process.stdin, self.process.stdout):
            if end:
                end.close()


@pytest.fixture
def measuring(root: Path, shipped: tuple[Path, Path]) -> Iterator[Callable[..., Measuring]]:
    """Starts one; it is ended however the test ends."""
    started: list[Measuring] = []

    def start(*, sockets: bool = False) -> Measuring:
        started.append(Measuring(root, shipped[1], sockets=sockets))
        return started[-1]

    yield start
    for item in started:
        item.leave()
        item.process.kill()
        item.process.wait()


def lasting(root: Path) -> dict[str, str]:
    return {name: content for name, content in tree(root).items() if name.startswith(("slots", "current"))}


@pytest.mark.slow
@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda agent: agent.leave(), id="workstation-gone"),
        pytest.param(lambda agent: agent.process.terminate(), id="SIGTERM"),
        pytest.param(lambda agent: agent.process.kill(), id="SIGKILL"),
    ],
)
def test_an_agent_that_is_ended_while_it_measures_leaves_nothing_running_and_nothing_changed(
    root: Path, shipped: tuple[Path, Path], measuring: Callable[..., Measuring], end: Callable[[Measuring], object]
) -> None:
    before, agent = lasting(root), measuring()
    end(agent)
    killed = agent.process.wait(timeout=30) == -signal.SIGKILL
    wait_for(lambda: not alive(agent.worker))
    assert lasting(root) == before
    assert (root / "staging").exists() == killed
    assert ask(root, "have", files=files_of(shipped[1])).value["bytes_there"]
    assert not (root / "staging").exists()  # what a killed agent left is cleared away


@pytest.mark.slow
def test_an_agent_over_sockets_ends_with_them_and_the_next_installation_finishes(
    root: Path, shipped: tuple[Path, Path], measuring: Callable[..., Measuring]
) -> None:
    agent = measuring(sockets=True)
    assert agent.ours
    agent.ours.shutdown(socket.SHUT_WR)  # all was said; the answer is still awaited
    assert alive(agent.worker) and agent.process.poll() is None
    agent.leave()
    agent.process.wait(timeout=30)
    wait_for(lambda: not alive(agent.worker))
    assert install(root, shipped[1]).value["outcome"] == "switched"


@pytest.mark.slow
def test_a_second_agent_learns_who_works_and_an_agent_that_is_ended_reports_it(
    root: Path, shipped: tuple[Path, Path], measuring: Callable[..., Measuring]
) -> None:
    agent = measuring()
    said = install(root, shipped[1], command=(sys.executable, "-P", "-c", IMPATIENT))
    assert said.failure["kind"] == "DeviceError"
    assert f"process {agent.process.pid}, installs a bundle for attic" in said.failure["message"]
    assert agent.process.poll() is None
    agent.process.terminate()
    assert agent.process.stdout
    events = [json.loads(line) for line in agent.process.stdout]
    assert agent.process.wait() == 128 + signal.SIGTERM
    assert events[-1]["event"] == "error" and "was ended" in events[-1]["message"]


def test_what_libraries_print_is_not_among_the_events(tmp_path: Path) -> None:
    noisy = """
import os, runpy
import edgebert.devices.agent.status as about
real = about.read_about
def read(root):
    print("from python")
    os.write(1, b"from a library\\n")
    return real(root)
about.read_about = read
runpy.run_module("edgebert.devices.agent.agent", run_name="__main__")
"""
    said = ask(tmp_path / "device", "hello", command=(sys.executable, "-P", "-c", noisy))
    assert len(said.events) == 1 and said.value["protocol"] == 1
    assert "from python" in said.err and "from a library" in said.err


def test_a_fault_of_the_agent_is_one_event_and_no_traceback(tmp_path: Path) -> None:
    broken = """
import runpy
import edgebert.devices.agent.status as about
def read(root):
    raise KeyError("colour")
about.read_about = read
runpy.run_module("edgebert.devices.agent.agent", run_name="__main__")
"""
    command = (sys.executable, "-P", "-c", broken)
    said = ask(tmp_path / "device", "hello", command=command)
    assert said.failure["kind"] == "DeviceError" and "KeyError: 'colour'" in said.failure["message"]
    assert said.code == 3 and said.err == ""
    assert "Traceback" in ask(tmp_path / "device", "hello", command=command, env={"EDGEBERT_DEBUG": "1"}).err


@pytest.mark.slow
def test_the_agent_needs_only_the_device_install(root: Path, shipped: tuple[Path, Path]) -> None:
    absent = sorted(WORKSTATION | {"asyncssh", "openvino"})
    script = (
        WITHOUT.format(absent=absent) + 'import runpy\nrunpy.run_module("edgebert.devices.agent.agent", run_name="__main__")\n'
    )
    command = (sys.executable, "-P", "-c", script)
    about = ask(root, "hello", command=command).value
    assert list(about["runtimes"]) == ["onnxruntime"]
    assert install(root, shipped[1], command=command).value["outcome"] == "switched"
    assert ask(root, "rollback", command=command).value["serving"] == "a"


def test_hello_does_not_wait_for_what_measures(tmp_path: Path) -> None:
    script = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
import runpy
runpy.run_module("edgebert.devices.agent.agent", run_name="__main__")
"""
    said = ask(tmp_path / "device", "hello", command=(sys.executable, "-P", "-c", script))
    assert said.value["cpu"] and said.value["free_bytes"] > 0
    heavy = {"model_signing", "onnxruntime", "openvino", "tokenizers", "typer", "rich"}
    assert not {*heavy, "edgebert.measure.bench", "edgebert.report.report"} & set(said.err.split())
    assert os.uname().machine == said.value["machine"]
