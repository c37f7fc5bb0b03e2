"""Loads while another process exchanges a bundle for what nobody signed: the signed model answers, or none does."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from edgebert.core.exchange import exchange as core_exchange

EXCHANGED_S = 0.05
"""Mean time that an exchange lasts, and between two: loads meet one anywhere, or none."""
TEXT = "The soup was cold and nobody cared."


def exchange(first: Path, second: Path) -> None:
    """Exchanges two files or folders in one step.

    Raises:
        OSError: the system cannot, so that nothing would be tried.
    """
    if not core_exchange(first, second):
        raise OSError(errno.ENOTSUP, "this system cannot exchange two paths in one step", str(first))


def forge(bundle: Path, other: Path) -> Path:
    """An unsigned copy of a bundle beside it whose graphs are another model's."""
    made = Path(shutil.copytree(bundle, bundle.with_name("forged")))
    for graph in made.rglob("*.onnx"):
        shutil.copyfile(other / graph.relative_to(made), graph)
    return made


def exchanging(bundle: Path, forged: Path, seed: int) -> int:
    """Starts a process that exchanges the bundle, a folder or a graph of it, again and again. Returns its id."""
    pairs = [(bundle, forged), (bundle / "onnx", forged / "onnx")]
    pairs += [(graph, forged / graph.relative_to(bundle)) for graph in sorted(bundle.glob("onnx/*.onnx"))]
    child = os.fork()
    if child:
        return child
    draw = random.Random(seed)
    while os.getppid() != 1:
        pair = draw.choice(pairs)
        exchange(*pair)
        time.sleep(draw.expovariate(1 / EXCHANGED_S))
        exchange(*pair)
        time.sleep(draw.expovariate(1 / EXCHANGED_S))
    os._exit(0)


def loads_during_exchanges(bundle: Path, other: Path, count: int, seed: int) -> Counter[str]:
    """Loads a bundle so often while it is exchanged. Counts `signed` and `unsigned` answers, and `refused` loads.

    Args:
        other: a bundle of the same graphs' names with another model, of which the forged copy has the graphs.
    """
    from edgebert.bundle.predictor import load_predictor
    from edgebert.errors import EdgebertError

    wanted, strange = (load_predictor(folder)(TEXT).score for folder in (bundle, other))
    if abs(wanted - strange) < 1e-3:
        raise SystemExit("both models answer alike, so that no exchange would be seen")
    forged, seen = forge(bundle, other), Counter[str]()
    child, draw = exchanging(bundle, forged, seed), random.Random(seed + 1)
    try:
        for _ in range(count):
            time.sleep(draw.expovariate(1 / EXCHANGED_S))
            try:
                answer = load_predictor(bundle)(TEXT).score
                seen["signed" if abs(answer - wanted) < 1e-6 else "unsigned"] += 1
            except (EdgebertError, FileNotFoundError):
                seen["refused"] += 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return seen
