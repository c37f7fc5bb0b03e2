"""The scenarios, warm-up, reference, waiting and overhead, with sessions whose times are known."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_machines import grow, siblings
from fake_session import FakeSession
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from edgebert.errors import InputError
from edgebert.measure.latency import warm_up
from edgebert.measure.latency.driver import Own
from edgebert.measure.latency.first_answer import Slowed
from edgebert.measure.latency.scenarios import Query, Served, poisson_arrivals, server, wait_until
from edgebert.measure.machine import cores
from edgebert.measure.machine.kernel_files import KernelFiles
from edgebert.measure.machine.reference_workload import time_reference_workload, undisturbed
from edgebert.report.rounds import Setting
from edgebert.runtimes.base import Array, Session
from edgebert.tasks.base import Encoded, collate

PART_S = 0.01
"""Of sleeping, that stands for the work of one batch: long against what a busy machine adds to a thread's start."""


def batch(length: int = 4, rows: int = 1, number: int = 1) -> dict[str, Array]:
    return collate([Encoded((number,) * length, (0,) * length)] * rows, length=length, pad_id=0)


def queries(count: int, *, batches: int = 1, rows: int = 1) -> list[Query]:
    """Numbered by their tokens, of lengths 1, 2, 3, 1, 2, ..."""
    return [Query((batch(1 + number % 3, rows, number),) * batches) for number in range(count)]


class Noting(FakeSession):
    """Sleeps, and notes when it was asked and what."""

    def __init__(self, seconds: float = 0.0, *, stall: int | None = None) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.started: list[int] = []
        self.parts: list[int] = []
        self._seconds, self._stall = seconds, stall

    def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        before = time.perf_counter_ns()
        self.started.append(before)
        self.asked.append(int(batch["input_ids"][0, 0]))
        time.sleep(10 * PART_S if len(self.asked) - 1 == self._stall else self._seconds)
        outputs = super().predict(batch)
        self.parts.append(time.perf_counter_ns() - before)
        return outputs


class Failing(FakeSession):
    """Fails at its third query, or at once."""

    def __init__(self, at: int = 2) -> None:
        super().__init__()
        self._left = at

    def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        if not self._left:
            raise RuntimeError("the device is gone")
        self._left -= 1
        return super().predict(batch)


def send(scenario: str, sessions: Sequence[Session], asked: Sequence[Query], **fields: Any) -> Served:
    """As a measuring process does."""
    return Own(Setting(scenario=scenario, **fields), asked, seed=(0, 0)).run(sessions)


SETTINGS: dict[str, dict[str, Any]] = {
    "single-stream": {},
    "multi-stream": {"streams": 2},
    "offline": {},
    "server": {"rate": 1e6},
}


@pytest.mark.parametrize("scenario", SETTINGS)
def test_every_scenario_asks_each_query_once_and_in_order_of_one_session(scenario: str) -> None:
    session = Noting()
    batches = 2 if scenario == "multi-stream" else 1
    served = send(scenario, [session], queries(20, batches=batches), **SETTINGS[scenario])
    assert session.asked == [number for number in range(20) for _ in range(batches)]
    assert len(served.latencies_ns) == 20 and min(served.latencies_ns) > 0
    assert list(served.lengths) == [1 + number % 3 for number in range(20)]
    assert served.examples == 20 * batches


@pytest.mark.parametrize("scenario", ["multi-stream", "offline", "server"])
def test_several_sessions_share_the_queries_and_none_is_lost(scenario: str) -> None:
    sessions = [Noting(0.001) for _ in range(3)]
    batches = 3 if scenario == "multi-stream" else 1
    served = send(scenario, sessions, queries(30, batches=batches), instances=3, **SETTINGS[scenario])
    assert sorted(number for session in sessions for number in session.asked) == sorted([*range(30)] * batches)
    assert all(session.asked for session in sessions)
    assert min(served.latencies_ns) > 0


def test_single_stream_latencies_lie_one_behind_the_other() -> None:
    session = Noting(0.001)
    served = send("single-stream", [session], queries(10))
    assert all(latency >= part for latency, part in zip(served.latencies_ns, session.parts, strict=True))
    assert sum(served.latencies_ns) <= served.wall_ns


@pytest.mark.parametrize("instances", [1, 2])
def test_a_multi_stream_query_ends_with_its_last_part(instances: int) -> None:
    sessions = [Noting(PART_S) for _ in range(instances)]
    served = send("multi-stream", sessions, queries(3, batches=4), streams=4, instances=instances)
    parts = [part for session in sessions for part in session.parts]
    assert len(parts) == 12
    assert min(served.latencies_ns) >= 4 / instances * min(parts)
    if instances == 1:
        assert sum(served.latencies_ns) >= sum(parts)
    else:
        assert sum(served.latencies_ns) < 0.9 * sum(parts)  # side by side they would be half of it


def test_offline_throughput_rises_with_a_second_session() -> None:
    one = send("offline", [Noting(PART_S)], queries(8, rows=2))
    two = send("offline", [Noting(PART_S), Noting(PART_S)], queries(8, rows=2), instances=2)
    assert one.examples == two.examples == 16
    assert two.examples / two.wall_ns > 1.3 * one.examples / one.wall_ns
    assert max(one.latencies_ns) < one.wall_ns  # of each batch alone


def test_no_query_of_a_server_is_served_before_it_arrives() -> None:
    session = Noting()
    arrivals = [0, 3_000_000, 3_000_001, 9_000_000]
    before = time.perf_counter_ns()
    served = server([session], queries(4), arrivals)
    assert all(started - before >= arrival for started, arrival in zip(session.started, arrivals, strict=True))
    assert served.wall_ns >= 9_000_000


def test_server_tells_how_late_the_middle_query_was_sent() -> None:
    session = Noting()
    arrivals = [index * 2_000_000 for index in range(9)]
    before = time.perf_counter_ns()
    served = server([session], queries(9), arrivals)
    late = [started - before - arrival for started, arrival in zip(session.started, arrivals, strict=True)]
    assert 0 < served.late_ns <= float(np.median(late))


def test_lateness_of_a_busy_session_is_not_the_generators() -> None:
    session = Noting(PART_S)
    served = server([session], queries(9), [0] * 9)
    assert 0 < served.late_ns < 0.5 * min(session.parts)


def test_latencies_of_an_overloaded_server_grow_and_all_queries_are_served() -> None:
    served = send("server", [Noting(0.002)], queries(30), rate=1e6)
    latencies = list(served.latencies_ns)
    assert latencies == sorted(latencies)
    assert latencies[-1] > 10 * latencies[0]
    assert latencies[-1] <= served.wall_ns


def test_a_stalled_server_lets_those_that_wait_count_their_wait() -> None:
    session = Noting(0.0, stall=0)
    served = server([session], queries(20), [0] * 20)
    # Only the first query was slow to serve; a loop that sent the next one late would count the others as fast.
    assert session.parts[0] > 10 * float(np.median(session.parts))
    assert min(served.latencies_ns) >= session.parts[0]


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("scenario", SETTINGS)
def test_a_session_that_fails_ends_the_scenario(scenario: str, instances: int) -> None:
    sessions = [Failing() for _ in range(instances)]
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="the device is gone"):
        send(
            scenario,
            sessions,
            queries(20, batches=2 if scenario == "multi-stream" else 1),
            instances=instances,
            **SETTINGS[scenario],
        )
    assert threading.active_count() == before


@given(st.integers(1, 200), st.floats(1e-3, 1e9), st.integers(0, 2**32))
def test_arrivals_ascend_and_depend_on_the_seed_alone(count: int, rate: float, seed: int) -> None:
    arrivals = poisson_arrivals(count, rate, (seed, 1))
    assert len(arrivals) == count and arrivals == sorted(arrivals) and arrivals[0] >= 0
    assert arrivals == poisson_arrivals(count, rate, (seed, 1))
    assert count < 3 or rate > 1e6 or arrivals != poisson_arrivals(count, rate, (seed, 2))


def test_arrivals_are_a_poisson_process() -> None:
    gaps = np.diff(poisson_arrivals(20_000, rate=50.0, seed=(0,))) / 1e9
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)  # of an exponential distribution they are equal
    assert np.mean(gaps > 1 / 50) == pytest.approx(np.exp(-1), abs=0.01)


@given(st.integers(-1_000_000, 400_000))
@examples(max_examples=30)
def test_waiting_never_ends_early(nanoseconds: int) -> None:
    moment = time.perf_counter_ns() + nanoseconds
    wait_until(moment)
    assert time.perf_counter_ns() >= moment


@pytest.mark.parametrize("share", [0.0, 0.04, 1.0])
def test_slowed_takes_its_share_longer_and_answers_the_same(share: float) -> None:
    inner = Noting(0.002)
    slowed = Slowed(inner, share)
    times = []
    for query in queries(10):
        before = time.perf_counter_ns()
        outputs = slowed.predict(query.batches[0])
        times.append(time.perf_counter_ns() - before)
        assert np.array_equal(outputs["logits"], FakeSession().predict(query.batches[0])["logits"])
    assert all(time >= (1 + share) * part for time, part in zip(times, inner.parts, strict=True))
    assert min(time / part for time, part in zip(times, inner.parts, strict=True)) < 1 + share + 0.2


@pytest.mark.parametrize("scenario", SETTINGS)
def test_the_loop_of_every_scenario_costs_little(scenario: str) -> None:
    setting = Setting(scenario=scenario, **(SETTINGS[scenario] | ({"rate": 0.001} if scenario == "server" else {})))
    overhead = Own(setting, queries(3), seed=(0,)).overhead_ns()  # at this rate it would take an hour if it waited
    assert 0 < overhead < 5_000


def test_the_collector_is_as_it_was_after_a_timed_stretch() -> None:
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    with pytest.raises(ValueError, match="inside"), undisturbed():
        assert not gc.isenabled()
        raise ValueError("inside")
    assert gc.isenabled() and gc.get_freeze_count() <= frozen
    gc.disable()
    try:
        with undisturbed():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_reference_workload_is_the_same_work_each_time() -> None:
    times = time_reference_workload(9)
    assert len(times) == 9 and min(times) > 0
    assert np.median(times) < 20 * min(times)  # a busy machine may take it away for a while


@pytest.mark.parametrize(
    ("medians", "settled"),
    [
        ([], False),
        ([1.0, 1.0], False),
        ([1.0, 1.0, 1.0], True),
        ([1.0, 1.01, 1.02], True),
        ([1.0, 1.01, 1.03], False),
        ([1.03, 1.0, 1.01], False),
        ([9.0, 5.0, 1.0, 1.01, 1.0], True),
    ],
)
def test_latency_has_settled_when_three_medians_lie_close_together(medians: list[float], settled: bool) -> None:
    assert warm_up.is_settled(medians) is settled


def test_warm_up_without_settling_serves_exactly_as_many_as_asked() -> None:
    sessions = [Noting(), Noting()]
    found = warm_up.warm_up(sessions, queries(5), least=5, settle=False)
    assert [session.asked for session in sessions] == [[0, 1, 2, 3, 4]] * 2
    assert (found.queries, found.stable) == (10, None)
    assert warm_up.warm_up(sessions, queries(5), least=0, settle=False).query_ns == 0


def test_warm_up_ends_when_latency_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "WITHIN", 1e9)
    found = warm_up.warm_up([Noting()], queries(4), least=2, settle=True)
    assert (found.queries, found.stable) == (3 * 4, True)
    found = warm_up.warm_up([Noting()], queries(4), least=30, settle=True)
    assert (found.queries, found.stable) == (8 * 4, True)


def test_warm_up_gives_up_on_a_latency_that_never_settles(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rising(FakeSession):
        asked = 0

        def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
            self.asked += 1
            time.sleep(1e-4 * 1.5 ** (self.asked // 4))
            return super().predict(batch)

    monkeypatch.setattr(warm_up, "MOST_QUERIES", 20)
    found = warm_up.warm_up([Rising()], queries(4), least=2, settle=True)
    assert (found.queries, found.stable) == (20, False)
    monkeypatch.setattr(warm_up, "MOST_SECONDS", 0.0)
    assert warm_up.warm_up([Rising()], queries(4), least=6, settle=True).queries == 8


def test_the_fast_cores_of_a_hybrid_cpu_are_chosen_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "usable", lambda: tuple(range(6)))
    tree = siblings({0: "0-1", 1: "0-1"} | {core: str(core) for core in range(2, 6)})
    files = grow(tmp_path, tree | {"sys/devices/cpu_core/cpus": "0-2"})
    assert [cores.choose_cores(count, files=files) for count in (1, 2, 3)] == [(2,), (0, 2), (0, 2, 5)]
    assert cores.choose_cores(1, 2, files=files) == (0, 2)


def test_cores_can_be_chosen_when_the_kernel_says_nothing_of_them(tmp_path: Path) -> None:
    assert cores.choose_cores(1, files=KernelFiles(tmp_path)) == cores.usable()[-1:]


def test_a_core_that_is_not_there_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "usable", lambda: (0, 1, 2, 5))
    with pytest.raises(InputError) as caught:
        cores.check_cores([1, 7])
    assert str(caught.value) == "There is no core 7 for this process to be pinned to: it may use 0-2, 5."
    monkeypatch.setattr(cores, "usable", lambda: ())
    cores.check_cores([7])  # the system does not say
