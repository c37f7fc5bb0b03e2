"""Models that take turns: what differs by much is found to differ, and faults come with their message."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebert.errors import StageError
from edgebert.measure.latency.turns import take_turns
from edgebert.measure.latency.turns_worker import Timings
from edgebert.runtimes.target import Target
from edgebert.stages.prune.latency.layer_graphs import GraphSizes, StackSizes, write_graph
from edgebert.tasks.base import Encoded

TEXTS = [Encoded(tuple(range(1, length)), (0,) * (length - 1)) for length in range(8, 40)]
TARGET = Target(runtime="onnxruntime")


def graph(folder: Path, layers: int) -> Path:
    path = folder / f"{layers}.onnx"
    write_graph(GraphSizes(64, 16, (StackSizes(4, 256),) * layers, positions=64), path)
    return path


def test_a_model_of_eight_layers_is_slower_than_one_of_one(tmp_path: Path) -> None:
    small, large = graph(tmp_path, 1), graph(tmp_path, 8)
    found = take_turns([(small, TARGET), (large, TARGET)], TEXTS, pad_id=0, max_length=64, seconds=0.05)
    assert len(found.medians) == 2 and len(found.medians[0]) == len(found.medians[1]) >= 5
    assert found.ratio(0) == 1.0
    assert found.ratio(1) < 1 / 1.5
    assert found.p50_ms(1) > found.p50_ms(0) > 0


def test_batches_are_those_of_the_target(tmp_path: Path) -> None:
    small = graph(tmp_path, 1)
    alone, eight = TARGET, Target(runtime="onnxruntime", batch=8)
    found = take_turns([(small, alone), (small, eight)], TEXTS, pad_id=0, max_length=64, seconds=0.05)
    assert found.ratio(1) < 1 / 1.5


def test_ratio_is_taken_round_by_round() -> None:
    found = Timings(medians=((100.0, 1000.0, 100.0), (50.0, 500.0, 80.0)))
    assert found.ratio(1) == 2.0  # the slow round slows both


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(StageError, match=r"broken\.onnx"):
        take_turns([(tmp_path / "broken.onnx", TARGET)], TEXTS, pad_id=0, max_length=64, seconds=0.01)
