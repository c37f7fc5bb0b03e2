"""Ctrl-C: remembered where a library swallows it, reported as an interrupt where a library makes another error of it, and still
an interrupt after OpenVINO compiled and dropped graphs."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import alive, measuring, wait_for

from edgebert.core import interrupts
from edgebert.core.interrupts import Interruptible, SignalStack, signal_stack, signal_stack_kept
from edgebert.core.progress import Silent
from edgebert.errors import EXIT_INTERRUPTED, StageError


@pytest.fixture(autouse=True)
def listening() -> Iterator[None]:
    """Listens for one test."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    interrupts.listen()
    yield
    interrupts.listen()  # forgets
    for number, handler in before.items():
        signal.signal(number, handler)


def swallowed() -> None:
    """Ctrl-C in a library that takes it for a failure of its own."""
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def open_step() -> None:
    with Interruptible(Silent()).step("work"):
        pass


def within(act: Callable[[Any], None]) -> Callable[[], None]:
    """What happens inside of a step after a Ctrl-C was lost there."""

    def call() -> None:
        with Interruptible(Silent()).step("work", 3) as step:
            swallowed()
            act(step)

    return call


LIVELY = [
    open_step,
    lambda: Interruptible(Silent()).note("a line"),
    within(lambda step: step.advance()),
    within(lambda step: step.skip_to(2)),
    within(lambda step: None),
]


@pytest.mark.parametrize("alive", LIVELY, ids=["step", "note", "advance", "skip_to", "end of a step"])
def test_run_ends_at_its_next_sign_of_life(alive: Callable[[], None]) -> None:
    if alive in LIVELY[:2]:
        alive()
        swallowed()
    with pytest.raises(KeyboardInterrupt):
        alive()


def test_without_an_interrupt_progress_is_as_it_was() -> None:
    with Interruptible(Silent()).step("work", 2) as step:
        step.skip_to(1)
        step.advance()
    assert not interrupts.asked()


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, 143, "Ended."), (signal.SIGHUP, 129, "Ended.")],
)
def test_every_signal_to_end_raises_as_ctrl_c_does_and_has_its_code(
    number: signal.Signals, code: int, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgebert.cli import main

    monkeypatch.setattr(main, "app", lambda **_: signal.raise_signal(number))
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == code
    assert f"error: {word}" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)])
def test_bench_that_is_ended_leaves_no_process_and_no_texts(
    number: signal.Signals, code: int, finished: Path, tmp_path: Path
) -> None:
    graph = finished / "runs" / "recipe" / "bundle" / "onnx" / "model.onnx"
    command = [sys.executable, "-m", "edgebert", "bench", str(graph), "--rounds", "99", "--queries", "3000", "--no-settle"]
    with subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        worker = wait_for(lambda: measuring(process.pid)).pop()
        process.send_signal(number)  # to it alone, as a supervisor does
        errors = process.communicate(timeout=30)[1].decode()
    assert process.returncode == code, errors
    wait_for(lambda: not alive(worker))
    if number != signal.SIGKILL:
        assert "error: Ended." in errors and "Traceback" not in errors
    assert bool(list(tmp_path.glob("edgebert-bench-*"))) == (number == signal.SIGKILL)


def test_signal_that_is_ignored_as_nohup_does_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts.listen()
    signal.raise_signal(signal.SIGHUP)
    assert not interrupts.asked()


def test_fork_of_ours_ends_at_once_when_it_is_asked_to() -> None:
    child = os.fork()
    if not child:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            os._exit(7)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM


def test_a_handler_of_somebody_else_stays() -> None:
    def own(number: int, frame: object) -> None: ...

    signal.signal(signal.SIGINT, own)
    interrupts.listen()
    assert signal.getsignal(signal.SIGINT) is own


@pytest.mark.parametrize("error", [StageError("The stage export failed."), ImportError("half of a module")], ids=repr)
def test_an_error_that_a_library_made_of_it_is_reported_as_an_interrupt(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgebert.cli import main

    def app(**options: Any) -> None:
        swallowed()
        raise error

    monkeypatch.setattr(main, "app", app)
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == EXIT_INTERRUPTED
    errors = capsys.readouterr().err
    assert "error: Interrupted." in errors and "fault" not in errors and "Traceback" not in errors


def test_the_first_interrupt_calls_the_action_and_the_second_is_raised() -> None:
    calls: list[str] = []
    with interrupts.calling_instead(lambda: calls.append("stop")):
        signal.raise_signal(signal.SIGTERM)
        assert calls == ["stop"] and interrupts.asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert calls == ["stop"]
    assert interrupts.exit_code() == 128 + signal.SIGTERM
    with pytest.raises(KeyboardInterrupt):  # as before
        signal.raise_signal(signal.SIGINT)


def test_a_signal_that_is_ignored_stays_ignored_while_another_action_is_set() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts.listen()
    with interrupts.calling_instead(lambda: pytest.fail("nohup is deaf to it")):
        signal.raise_signal(signal.SIGHUP)
    assert not interrupts.asked()


LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sigaltstack is looked at on Linux alone")

AFTER_GRAPHS = """
import gc, pathlib, signal, sys
import numpy as np
from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target

model = next(pathlib.Path(sys.argv[1]).glob("openvino/*quantized.xml"))
sessions = [get_runtime("openvino").open(model, Target(runtime="openvino")) for _ in range(2)]
batch = {name: np.ones((1, 8), dtype=np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
for session in sessions:
    session.predict(batch)
while sessions:
    del session, sessions[0]
    gc.collect()
    session = None
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@LINUX
def test_an_interrupt_after_graphs_are_gone_is_an_interrupt(bundle: Path) -> None:
    """In a process of its own: where it fails, it is a segmentation fault."""
    pytest.importorskip("openvino", reason='needs: pip install ".[openvino]"')
    command = [sys.executable, "-c", AFTER_GRAPHS, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONFAULTHANDLER": ""})
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


@LINUX
@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupt_that_left_the_code_of_an_exec_has_its_exit_code(number: str, code: int) -> None:
    """As when a library is imported, whose dataclasses are made by `exec`."""
    script = f"""
import edgebert.cli.main as cli
cli.app = lambda **options: exec("import os, signal, time; os.kill(os.getpid(), signal.{number}); time.sleep(60)")
cli.entry()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("error: ") == 1


def test_the_stack_is_as_it_was_when_a_library_set_another() -> None:
    before, other = signal_stack(), ctypes.create_string_buffer(64 * 1024)
    with signal_stack_kept():
        stack = SignalStack(ctypes.addressof(other), 0, len(other))
        assert ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0
        assert signal_stack() != before
    assert signal_stack() == before


def test_a_system_without_signal_stacks_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert signal_stack() is None
    with signal_stack_kept():
        pass
