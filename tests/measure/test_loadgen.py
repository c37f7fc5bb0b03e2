"""MLCommons' LoadGen as the driver: its latencies, its clean-up, its failures."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_session import FakeSession

from edgebert.errors import StageError
from edgebert.measure.latency.job import RoundJob
from edgebert.measure.latency.latency import run_job, write_rows
from edgebert.measure.latency.scenarios import Query, Served, single_stream
from edgebert.report.rounds import Setting
from edgebert.runtimes.base import Array, Session
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Encoded, collate

WITHOUT_LOADGEN = """
import sys
sys.modules["mlperf_loadgen"] = None
sys.modules.pop("mlperf_loadgen")
from importlib.machinery import PathFinder
class Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name == "mlperf_loadgen" else PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Without
from edgebert.measure.latency.loadgen import require
try:
    require()
except Exception as error:
    print(type(error).__name__, error)
"""


def test_it_says_what_to_install_when_loadgen_is_not_there() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_LOADGEN], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MissingPackage The driver mlcommons-loadgen needs the package mlcommons-loadgen")
    assert 'pip install "edgebert[loadgen]"' in done.stdout


pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen is not installed")
from edgebert.measure.latency import loadgen  # noqa: E402 - after the package that it drives is known to be there
from edgebert.measure.latency.loadgen import drive  # noqa: E402 - after the package that it drives is known to be there


def queries(count: int) -> list[Query]:
    """Numbered by their tokens, of lengths 1, 2, 3, 1, 2, ..."""
    texts = [Encoded((number,) * (1 + number % 3), (0,) * (1 + number % 3)) for number in range(count)]
    return [Query((collate([text], length=len(text), pad_id=0),)) for text in texts]


class Busy(FakeSession):
    """Computes for a time that depends on the query alone, and notes the query."""

    def __init__(self, microseconds: int = 0) -> None:
        super().__init__()
        self.asked: list[int] = []
        self._microseconds = microseconds

    def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        ends = time.perf_counter_ns() + 1_000 * self._microseconds * batch["input_ids"].shape[1]
        self.asked += [int(row[0]) for row in batch["input_ids"]]
        while time.perf_counter_ns() < ends:
            pass
        return super().predict(batch)


def loaded(sessions: Sequence[Session], count: int, **fields: Any) -> Served:
    """LoadGen's result."""
    asked = queries(count)

    def collate_of(indices: Sequence[int]) -> Query:
        ids = [Encoded((index,) * 3, (0,) * 3) for index in indices]
        return Query((collate(ids, length=3, pad_id=0),))

    return drive(sessions, asked, Setting(**fields), seed=1, collate=collate_of)


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Neither files nor threads."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "temporary")
    before = threading.active_count()
    yield
    assert not list((tmp_path / "temporary").iterdir())
    assert threading.active_count() == before


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize(
    ("scenario", "fields", "latencies"),
    [("single-stream", {}, 60), ("multi-stream", {"streams": 4}, 15), ("offline", {}, 60), ("server", {"rate": 1000.0}, 60)],
)
def test_every_sample_is_sent_once(scenario: str, fields: dict[str, Any], latencies: int, instances: int) -> None:
    sessions = [Busy(100) for _ in range(instances)]
    served = loaded(sessions, 60, scenario=scenario, instances=instances, **fields)
    assert sorted(number for session in sessions for number in session.asked) == [*range(60)]
    assert len(served.latencies_ns) == len(served.lengths) == latencies
    assert min(served.latencies_ns) >= 100_000
    assert served.examples == 60
    assert max(served.latencies_ns) <= served.wall_ns + 1_000  # the trace's clock has microseconds


def test_lengths_belong_to_the_queries_as_they_were_sent() -> None:
    session = Busy(300)
    served = loaded([session], 30)
    assert list(served.lengths) == [1 + number % 3 for number in session.asked] != [query.length for query in queries(30)]
    assert all(latency >= 300_000 * length for latency, length in zip(served.latencies_ns, served.lengths, strict=True))


def test_a_seed_decides_the_order() -> None:
    first, again, other = Busy(), Busy(), Busy()
    for session, seed in ((first, 1), (again, 1), (other, 2)):
        drive([session], queries(20), Setting(), seed=seed)
    assert first.asked == again.asked != other.asked


def test_single_stream_p90_agrees_with_our_own() -> None:
    """In short blocks that alternate: what takes the core away for a while disturbs a few of either, and not the median."""
    session, asked = Busy(40), queries(64)
    ratios = []
    for block in range(11):
        ours = single_stream([session], asked)
        theirs = drive([session], asked, Setting(), seed=block)
        ratios.append(np.percentile(theirs.latencies_ns, 90) / np.percentile(ours.latencies_ns, 90))
        assert min(ours.latencies_ns) >= 40_000 and min(theirs.latencies_ns) >= 40_000
    assert 0.75 < float(np.median(ratios)) < 1.25


class Failing(FakeSession):
    def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        raise RuntimeError("the device is gone")


@pytest.mark.parametrize("scenario", ["single-stream", "multi-stream", "offline", "server"])
def test_what_is_around_it_does_not_span_the_reading_of_its_logs(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        order.append("begins")
        yield
        order.append("ends")

    read = loadgen._events
    monkeypatch.setattr(loadgen, "_events", lambda trace: (order.append("reads"), read(trace))[1])
    setting = Setting(scenario=scenario, rate=1000.0)
    drive([Busy()], queries(8), setting, around=around(), collate=lambda indices: queries(8)[indices[0]])
    assert order == ["begins", "ends", "reads"]


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from edgebert.measure.latency.loadgen import drive
from edgebert.measure.latency.scenarios import Query
from edgebert.report.rounds import Setting
from edgebert.runtimes.base import Session
class Killing(Session):
    def predict(self, batch):
        os.kill(os.getpid(), signal.SIGKILL)
drive([Killing()], [Query(({"input_ids": np.zeros((1, 4), np.int64)},))] * 8, Setting(), folder=Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_what_a_killed_process_leaves_lies_where_its_rows_are(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "rows")],
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
    )
    assert done.returncode == -signal.SIGKILL
    assert [path.name[:17] for path in (tmp_path / "rows").iterdir()] == ["edgebert-loadgen-"]
    # and the fixture finds nothing beside it


@pytest.mark.parametrize("scenario", ["single-stream", "multi-stream", "offline", "server"])
def test_a_session_that_fails_ends_it(scenario: str) -> None:
    with pytest.raises(RuntimeError, match="the device is gone"):
        loaded([Failing()], 8, scenario=scenario, streams=2 if scenario == "multi-stream" else 1, rate=1000.0)


def test_a_process_measures_a_real_model_with_it(finished: Path, tmp_path: Path) -> None:
    bundle = finished / "runs" / "recipe" / "bundle"
    write_rows(
        tmp_path / "rows.jsonl", [{"text": word} for word in ("a good film", "bad soup", "fine", "an awful app it is") * 5]
    )
    job = RoundJob(
        round=0,
        model=str(bundle / "onnx" / "model.onnx"),
        target=Target(runtime="onnxruntime", batch=2),
        task="text-classification",
        labels=("negative", "positive"),
        max_length=32,
        pad_id=0,
        tokenizer=str(bundle / "tokenizer.json"),
        rows=str(tmp_path / "rows.jsonl"),
        warmup=1,
        setting=Setting(scenario="multi-stream", streams=3, driver="mlcommons-loadgen"),
    )
    found = run_job(job)
    assert len(found.latencies_ns) == 5 and found.examples == 15  # 17 texts after the warm-up, of which 2 are no whole query
    assert found.overhead_ns is not None and found.overhead_ns > 0
    with pytest.raises(StageError, match="nothing to time"):
        run_job(job.model_copy(update={"warmup": 99}))
