"""Folders and files that are exchanged while a bundle is being opened: at a chosen moment, or all the time by another process.

`exchange` is one system call, so that there is no moment at which a path leads nowhere.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgebert.core.exchange import exchange as core_exchange

LOOP = """
import sys, time
sys.path.insert(0, {here!r})
from exchanges import exchange
from pathlib import Path
first, second, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
print("begun", flush=True)
while True:
    exchange(first, second)
    exchange(first, second)
    time.sleep(pause)
"""


def exchange(first: Path, second: Path) -> None:
    """Exchanges two files or folders atomically; file systems without this have it done in three renames."""
    if not core_exchange(first, second):
        kept = first.with_name(f"{first.name}.kept")
        first.rename(kept)
        second.rename(first)
        kept.rename(second)


@contextmanager
def exchanging(first: Path, second: Path, *, pause: float = 0.0) -> Iterator[None]:
    """Another process exchanges the two all the time, there and back.

    Args:
        pause: seconds between two times.
    """
    program = [sys.executable, "-c", LOOP.format(here=str(Path(__file__).parent)), first, second, str(pause)]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def tampered(bundle: Path, target: Path) -> Path:
    """A copy that nobody signed: graphs with other answers, and every name, size and shape as before."""
    made = Path(shutil.copytree(bundle, target))
    for graph in (made / "onnx").glob("*.onnx"):
        lying(graph)
    for weights in (made / "openvino").glob("*.bin"):
        weights.write_bytes(bytes(weights.stat().st_size))
    return made


def lying(graph: Path) -> None:
    """Changes the sign of every float weight of an ONNX graph."""
    import numpy as np
    import onnx

    data = graph.read_bytes()
    for tensor in onnx.load(graph).graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.raw_data) > 4:
            data = data.replace(tensor.raw_data, (-np.frombuffer(tensor.raw_data, dtype=np.float32)).tobytes(), 1)
    graph.write_bytes(data)


def around(work: Callable[..., object], before: Callable[[], object], after: Callable[[], object]) -> Callable[..., object]:
    """The work with something that happens just before it, and something else just after it."""

    def within(*arguments: object, **options: object) -> object:
        before()
        try:
            return work(*arguments, **options)
        finally:
            after()

    return within
