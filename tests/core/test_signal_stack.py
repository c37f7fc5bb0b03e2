"""Ctrl-C still is Ctrl-C after OpenVINO compiled and dropped graphs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino", reason='needs: pip install ".[openvino]"')

from edgebert.core.interrupts import SignalStack, signal_stack, signal_stack_kept

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sigaltstack is looked at on Linux alone")

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


@linux
def test_an_interrupt_after_graphs_are_gone_is_an_interrupt(bundle: Path) -> None:
    """In a process of its own: where it fails, it is a segmentation fault."""
    command = [sys.executable, "-c", AFTER_GRAPHS, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONFAULTHANDLER": ""})
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


@linux
def test_the_stack_is_as_it_was_when_a_library_set_another() -> None:
    import ctypes

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
