"""Measuring processes: what a round holds, under every load, and what happens when one fails, is ended or hangs."""

from __future__ import annotations

import gc
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import review_rows
from processes import alive, measuring, wait_for
from pydantic import ValidationError

import edgebert
from edgebert.core.progress import Silent
from edgebert.errors import InputError, StageError
from edgebert.measure.latency import process
from edgebert.measure.latency.job import RoundJob, texts_per_query
from edgebert.measure.latency.latency import measure_rounds, query_order, rotated, run_job, write_rows
from edgebert.measure.machine.cores import choose_cores
from edgebert.measure.machine.energy import Counter, EnergyMeter
from edgebert.measure.machine.kernel_files import KernelFiles
from edgebert.report.rounds import Round, Setting
from edgebert.runtimes.isa import amx_granted, host_cpu, usable_isa
from edgebert.runtimes.target import Target

TARGET = Target(runtime="onnxruntime")
SINGLE = Setting()
ROWS = [{"text": row["text"]} for row in review_rows(30)]
WARMUP = 2
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the system does not say, or cannot pin")


@pytest.fixture
def job(finished: Path, tmp_path: Path) -> Callable[..., RoundJob]:
    """Makes jobs of a real model of two layers: job(queries=8, setting=...)."""
    bundle = finished / "runs" / "recipe" / "bundle"

    def make(
        *, queries: int = 8, target: Target = TARGET, setting: Setting = SINGLE, rows: Sequence[Any] = ROWS, **fields: Any
    ) -> RoundJob:
        file = tmp_path / f"rows-{len(list(tmp_path.iterdir()))}.jsonl"
        needed = (WARMUP + queries) * texts_per_query(setting, target)
        write_rows(file, [rows[index] for index in query_order(len(rows), needed, seed=0)])
        usual: dict[str, Any] = {
            "round": 0,
            "model": str(bundle / "onnx" / "model.onnx"),
            "target": target,
            "task": "text-classification",
            "labels": ("negative", "positive"),
            "max_length": 32,
            "pad_id": 0,
            "tokenizer": str(bundle / "tokenizer.json"),
            "rows": str(file),
            "warmup": WARMUP,
            "setting": setting,
        }
        return RoundJob(**(usual | fields))

    return make


@LINUX
def test_a_round_tells_all_that_a_process_can_measure(job: Callable[..., RoundJob]) -> None:
    cores = choose_cores(1)
    found = run_job(job(queries=40, settle=True, end_to_end=True, pin=cores, process=3, round=1))
    assert (found.round, found.process, found.pinned) == (1, 3, cores)
    assert found.isa == usable_isa(host_cpu(), amx_granted())
    assert len(found.latencies_ns) == len(found.tokenise_ns) == len(found.end_to_end_ns) == len(found.lengths) == 40
    assert found.examples == 40
    assert found.wall_ns is not None and sum(found.latencies_ns) <= found.wall_ns
    assert found.cold_start_ns is not None and found.cold_start_ns > found.load_ns > max(found.latencies_ns.values.min(), 0)
    assert found.peak_rss_bytes is not None and found.pss_bytes is not None
    assert 10_000_000 < found.pss_bytes <= found.peak_rss_bytes
    assert found.warmup is not None and found.warmup >= 3 * WARMUP and found.stable is not None
    assert len(found.reference_workload_ns) == 16 and min(found.reference_workload_ns) > 0
    assert np.median(found.end_to_end_ns.values) > np.median(found.latencies_ns.values)


def test_the_loop_costs_less_than_five_microseconds(job: Callable[..., RoundJob]) -> None:
    overhead = run_job(job()).overhead_ns
    assert overhead is not None and 0 < overhead < 5_000


def test_a_plain_job_warms_up_with_as_many_queries_as_asked_and_leaves_the_rest(job: Callable[..., RoundJob]) -> None:
    found = run_job(job())
    assert (found.warmup, found.stable, found.pinned, len(found.end_to_end_ns)) == (WARMUP, None, (), 0)
    assert len(found.latencies_ns) == len(found.tokenise_ns) == 8


LOADS = {
    "multi-stream": (Setting(scenario="multi-stream", streams=3), TARGET, 3),
    "multi-stream in batches, two sessions": (
        Setting(scenario="multi-stream", streams=5, instances=2),
        Target(runtime="onnxruntime", batch=2),
        5,
    ),
    "offline": (Setting(scenario="offline", instances=2), Target(runtime="onnxruntime", batch=4), 4),
    "server": (Setting(scenario="server", rate=500.0), TARGET, 1),
    "server, two sessions": (Setting(scenario="server", rate=2000.0, instances=2), TARGET, 1),
    "compiled graphs": (Setting(scenario="offline"), Target(runtime="openvino", batch=2), 2),
}


@pytest.mark.parametrize("load", LOADS)
def test_a_real_model_serves_every_load(load: str, job: Callable[..., RoundJob], finished: Path) -> None:
    setting, target, texts = LOADS[load]
    openvino = {"model": str(finished / "runs/recipe/bundle/openvino/openvino_model.xml")} if "graphs" in load else {}
    found = run_job(job(setting=setting, target=target, end_to_end=True, **openvino))
    assert len(found.latencies_ns) == len(found.lengths) == len(found.end_to_end_ns) == 8
    assert found.examples == 8 * texts
    assert found.warmup == WARMUP * setting.instances
    assert found.overhead_ns is not None
    if setting.scenario == "offline":
        assert list(found.lengths) == sorted(found.lengths, reverse=True)
    else:
        assert found.wall_ns is not None and max(found.latencies_ns) <= found.wall_ns


def test_latencies_of_a_real_server_grow_when_queries_come_faster_than_it_answers(job: Callable[..., RoundJob]) -> None:
    found = run_job(job(queries=60, setting=Setting(scenario="server", rate=1e6)))
    latencies = list(found.latencies_ns)
    assert latencies == sorted(latencies)
    assert found.wall_ns is not None and latencies[-1] > 0.9 * found.wall_ns > 5 * min(np.diff(latencies))


def test_arrivals_are_those_of_the_round_and_not_of_the_model(job: Callable[..., RoundJob]) -> None:
    from edgebert.measure.latency.driver import Own

    asked = job(setting=Setting(scenario="server", rate=10.0), seed=7)
    drivers = [Own(asked.setting, [object()] * 5, (asked.seed, number)) for number in (0, 0, 1)]  # type: ignore[list-item]
    assert drivers[0].arrivals_ns == drivers[1].arrivals_ns != drivers[2].arrivals_ns


COUNTED = itertools.count(1)


class Growing(KernelFiles):
    """Counts on whenever it is read."""

    def number(self, path: str, base: int = 10) -> int | None:
        """5 more each time."""
        return 5 * next(COUNTED)


@pytest.mark.slow
def test_energy_gets_into_a_round(job: Callable[..., RoundJob], tmp_path: Path) -> None:
    from edgebert.measure.latency.first_answer import answer_first
    from edgebert.measure.latency.timed import measure

    asked = job(queries=60)
    meter = EnergyMeter((Counter("energy"),), Growing(tmp_path))
    opened = answer_first(asked)
    assert measure(asked, opened, lambda _: None, EnergyMeter(())).energy_uj is None
    # A busy machine may stop the process between the counter and the clock; not always.
    assert any(measure(asked, opened, lambda _: None, meter).energy_uj == 5 for _ in range(5))


@pytest.mark.slow
def test_energy_is_unknown_where_it_was_counted_for_much_longer_than_was_timed(tmp_path: Path) -> None:
    from edgebert.measure.latency.scenarios import Served
    from edgebert.measure.latency.timed import _serve

    class Slow:
        def __init__(self, untimed_s: float) -> None:
            self._untimed_s = untimed_s

        def run(self, sessions: Any, around: Any) -> Served:
            with around:
                before = time.perf_counter_ns()
                time.sleep(0.05)
                wall_ns = time.perf_counter_ns() - before
                time.sleep(self._untimed_s)
            return Served([1], [1], wall_ns, 1)

    meter = EnergyMeter((Counter("energy"),), Growing(tmp_path))
    assert any(_serve(Slow(0.0), [], meter)[1] == 5 for _ in range(5))  # type: ignore[arg-type]
    assert _serve(Slow(0.05), [], meter)[1] is None  # type: ignore[arg-type]


def test_offline_tokenises_in_the_order_in_which_it_serves(
    job: Callable[..., RoundJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgebert.measure.latency import timed
    from edgebert.measure.latency.query_maker import QueryMaker

    seen: list[tuple[int, bool]] = []

    class Noting(QueryMaker):
        def encode(self, rows: Sequence[Any]) -> Any:
            found = super().encode(rows)
            seen.append((max(len(window) for windows in found for window in windows), gc.isenabled()))
            return found

    asked = job(setting=Setting(scenario="offline"))
    timed._asked(asked, Noting(asked))
    timed_lengths = [length for length, collected in seen if not collected][WARMUP:]
    assert len(timed_lengths) == 8 and timed_lengths == sorted(timed_lengths, reverse=True)


def test_token_ids_are_served_without_a_tokenizer(job: Callable[..., RoundJob]) -> None:
    ids = [[5] * length for length in (4, 9)]
    found = run_job(job(rows=ids, tokenizer=None, task=None, labels=()))
    assert set(found.lengths) == {4, 9}
    assert len(found.tokenise_ns) == len(found.end_to_end_ns) == 0 and found.cold_start_ns != 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tokenizer": None, "end_to_end": True}, "end to end needs text"),
        ({"task": None}, "text needs a task"),
        ({"setting": Setting(scenario="server")}, "needs a rate"),
        ({"slowdown": -0.1}, "slowdown"),
        ({"slowdown": float("nan")}, "slowdown"),
        ({"seed": -1}, "seed"),
        ({"warmup": -1}, "warmup"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_job_that_cannot_be_is_refused(fields: dict[str, Any], message: str, job: Callable[..., RoundJob]) -> None:
    with pytest.raises(ValidationError, match=message):
        job(**fields)


def test_a_planted_slowdown_is_seen(job: Callable[..., RoundJob]) -> None:
    plain, slowed = measure_rounds([job(queries=60), job(queries=60, slowdown=2.0)], 2, Silent())
    ratio = np.median([item.latencies_ns.values for item in slowed]) / np.median([item.latencies_ns.values for item in plain])
    assert 1.5 < ratio < 10  # 3 on a quiet machine


def test_models_take_turns_so_that_none_always_follows_the_same() -> None:
    assert [rotated(2, turn) for turn in range(4)] == [[0, 1], [1, 0], [1, 0], [0, 1]]
    assert {tuple(rotated(3, turn)) for turn in range(6)} == set(permutations(range(3)))
    for count in range(1, 7):
        firsts = [rotated(count, turn)[0] for turn in range(2 * count)]
        assert sorted(firsts) == sorted([*range(count)] * 2)
        assert all(sorted(rotated(count, turn)) == [*range(count)] for turn in range(2 * count))


def test_processes_are_counted_in_the_order_of_their_starts(job: Callable[..., RoundJob]) -> None:
    rounds = measure_rounds([job(queries=1), job(queries=1)], 2, Silent(), first_process=10)
    assert [[(item.round, item.process) for item in one] for one in rounds] == [[(0, 10), (1, 13)], [(0, 11), (1, 12)]]


@LINUX
def test_cores_that_do_not_exist_are_refused_before_anything_is_measured(job: Callable[..., RoundJob], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^There is no core 4096 for this process to be pinned to: it may use [\d, -]+\.$"):
        measure_rounds([job(rows=ROWS), job(pin=(4096,), model=str(tmp_path / "none.onnx"))], 1, Silent())


@LINUX
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_threads_of_the_runtime_keep_to_the_cores(
    runtime: str, job: Callable[..., RoundJob], finished: Path, tmp_path: Path
) -> None:
    name = {"onnxruntime": "onnx/model.onnx", "openvino": "openvino/openvino_model.xml"}[runtime]
    asked = job(
        target=Target(runtime=runtime, threads=2),
        pin=choose_cores(1),
        model=str(finished / "runs/recipe/bundle" / name),
        started_ns=1,
    )
    script = """
import os, sys
from edgebert.measure.machine.cores import pin
from edgebert.measure.latency.first_answer import answer_first
from edgebert.measure.latency.job import RoundJob
from edgebert.runtimes import get_runtime
job = RoundJob.model_validate_json(sys.stdin.read())
get_runtime(job.target.runtime).import_package()
pin((int(sys.argv[1]),))
answer_first(job)
print({core for thread in os.listdir("/proc/self/task") for core in os.sched_getaffinity(int(thread))})
"""
    command = [sys.executable, "-c", script, str(asked.pin[0])]
    done = subprocess.run(command, input=asked.model_dump_json(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(set(asked.pin))


BEFORE_THE_FIRST_ANSWER = {
    "edgebert.measure.latency.latency",
    "edgebert.measure.latency.timed",
    "edgebert.report.report",
    "subprocess",
    "openvino",
    "torch",
}


def test_a_cold_start_imports_only_what_serving_needs(job: Callable[..., RoundJob]) -> None:
    script = """
import sys
import edgebert.measure.latency.worker
from edgebert.measure.latency.first_answer import answer_first
from edgebert.measure.latency.job import RoundJob
answer_first(RoundJob.model_validate_json(sys.stdin.read()))
print(*sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], input=job().model_dump_json(), capture_output=True, text=True, check=True
    )
    assert not BEFORE_THE_FIRST_ANSWER & set(done.stdout.split())


@LINUX
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_is_imported_before_its_process_is_pinned(runtime: str, job: Callable[..., RoundJob], finished: Path) -> None:
    """ONNX Runtime that is imported by a process that is pinned already does without AMX."""
    name = {"onnxruntime": "onnx/model.onnx", "openvino": "openvino/openvino_model.xml"}[runtime]
    asked = job(target=Target(runtime=runtime), pin=choose_cores(1), model=str(finished / "runs/recipe/bundle" / name))
    script = """
import os, sys
from edgebert.measure.latency import worker
real, whole = os.sched_setaffinity, os.sched_getaffinity(0)
def pinned(thread, cores):
    there = {"numpy", sys.argv[2]} & set(sys.modules)
    print("pinned with", *sorted(there), "imported on all cores", os.sched_getaffinity(0) == whole, file=sys.stderr)
    os.sched_setaffinity = real
    real(thread, cores)
os.sched_setaffinity = pinned
sys.exit(worker.main())
"""
    command = [sys.executable, "-c", script, str(os.getpid()), runtime]
    done = subprocess.run(command, input=asked.model_dump_json(), capture_output=True, text=True, check=True)
    there = " ".join(sorted(["numpy", runtime]))
    assert f"pinned with {there} imported on all cores True" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["pinned"] == list(asked.pin)


def test_only_the_worker_that_times_a_model_pins_itself_and_imports_the_runtime_first() -> None:
    """The other workers keep to the cores of their parent, which no code of edgebert narrows."""
    places = {
        (file.name, call)
        for file in Path(edgebert.__file__).parent.rglob("*.py")
        for call in re.findall(r"(?<!def )\b(pin|os\.sched_setaffinity|import_package)\(", file.read_text(encoding="utf-8"))
        if "measure" in file.parts or "stages" in file.parts
    }
    assert places == {("worker.py", "pin"), ("worker.py", "import_package"), ("cores.py", "os.sched_setaffinity")}


def test_what_libraries_print_does_not_reach_the_parent(tmp_path: Path) -> None:
    script = """
import os
from edgebert.measure.latency.worker import _line_writer
say = _line_writer()
print("python prints", flush=True)
os.write(1, b"C prints")
say({"said": 1})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"said": 1}
    assert "python prints" in done.stderr and "C prints" in done.stderr


def times(folder: Path, factor: float, output: str = "logits", rank: int = 2) -> Path:
    """A graph that answers its tokens times a factor; of rank 3 it answers one number for each token."""
    import onnx
    from onnx import TensorProto, helper

    constant = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    answer = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", "sequence", 1][:rank])
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "factor"], ["product"]),
        helper.make_node("Unsqueeze", ["product", "last"], [output])
        if rank == 3
        else helper.make_node("Identity", ["product"], [output]),
    ]
    last = helper.make_tensor("last", TensorProto.INT64, [1], [-1])
    graph = helper.make_graph(nodes, "g", [ids], [answer], [constant, last])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "times.onnx")
    return folder / "times.onnx"


def nan_model(folder: Path) -> Path:
    return times(folder, float("nan"))


def broken_model(folder: Path) -> Path:
    (folder / "broken.onnx").write_bytes(b"no graph")
    return folder / "broken.onnx"


@pytest.mark.parametrize(("make", "message"), [(nan_model, "answers NaN or infinity"), (broken_model, "cannot open")])
def test_a_model_that_cannot_serve_is_named_in_one_sentence(
    make: Callable[[Path], Path], message: str, job: Callable[..., RoundJob], tmp_path: Path
) -> None:
    model = make(tmp_path)
    with pytest.raises(StageError) as caught:
        run_job(job(model=str(model)))
    assert str(model) in caught.value.message and message in caught.value.message
    assert "\n" not in caught.value.message and "Traceback" not in caught.value.message


@pytest.mark.parametrize(
    ("output", "rank", "labels"),
    [("logits", 3, ()), ("logits", 3, ("one",)), ("last_hidden_state", 2, ()), ("logits", 2, ()), ("logits", 2, ("one",))],
)
def test_a_graph_is_served_with_text_when_it_is_not_the_tasks_or_its_labels_are_not_known(
    output: str, rank: int, labels: tuple[str, ...], job: Callable[..., RoundJob], tmp_path: Path
) -> None:
    found = run_job(job(model=str(times(tmp_path, 1.0, output, rank)), labels=labels, end_to_end=True))
    assert len(found.latencies_ns) == len(found.end_to_end_ns) == 8


def test_queries_that_are_all_used_up_by_the_warm_up_are_an_error(job: Callable[..., RoundJob]) -> None:
    with pytest.raises(StageError, match="nothing to time"):
        run_job(job(queries=0))


@pytest.fixture
def hanging(job: Callable[..., RoundJob], tmp_path: Path) -> RoundJob:
    """A job whose process waits for rows for ever."""
    os.mkfifo(tmp_path / "rows.fifo")
    return job(rows=ROWS).model_copy(update={"rows": str(tmp_path / "rows.fifo")})


def children() -> set[int]:
    """Processes that measure, of this one."""
    return measuring(os.getpid())


@LINUX
@pytest.mark.slow
def test_a_process_that_is_killed_is_an_error_that_says_so(hanging: RoundJob) -> None:
    def kill() -> None:
        os.kill(wait_for(children).pop(), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(StageError, match=r"was ended by SIGKILL\.\n  The system ends processes so when it runs out of memory"):
        run_job(hanging)
    killer.join()


@LINUX
def test_a_process_that_hangs_is_ended(hanging: RoundJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SILENCE_S", 0.5)
    monkeypatch.setattr(process, "LOOK_S", 0.1)
    with pytest.raises(StageError, match=r"gave no sign of life for 0\.5 s"):
        run_job(hanging)
    assert not children()


SPEAKING = """
import json, sys, time
sys.stdin.read()
for wait in (0.3, 0.3, 0.3, 0.3, 0.3):
    print(json.dumps({"lasts_s": wait}), flush=True)
    time.sleep(wait)
print("done")
"""


def test_a_process_that_speaks_may_take_as_long_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "speaking.py").write_text(SPEAKING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(process, "SILENCE_S", 1.0)
    monkeypatch.setattr(process, "LOOK_S", 0.05)
    assert process.run_worker(ModuleType("speaking"), "{}", "speaks") == "done"


INTERRUPTED = """
import sys
from edgebert.measure.latency.job import RoundJob
from edgebert.measure.latency.latency import run_job
print("ready", flush=True)
run_job(RoundJob.model_validate_json(sys.stdin.read()))
"""


@LINUX
@pytest.mark.slow
def test_ctrl_c_ends_the_process_that_measures(hanging: RoundJob) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdin is not None
    parent.stdin.write(hanging.model_dump_json())
    parent.stdin.close()

    def child() -> str:
        return subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(parent.pid)], capture_output=True, text=True, check=False
        ).stdout

    pid = int(wait_for(child).split()[0])
    parent.send_signal(signal.SIGINT)  # to the parent alone, as a supervisor does
    parent.wait(timeout=30)
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


@LINUX
@pytest.mark.slow
def test_the_process_that_measures_dies_with_a_parent_that_was_killed(hanging: RoundJob) -> None:
    parent = subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdin is not None
    parent.stdin.write(hanging.model_dump_json())
    parent.stdin.close()
    pid = wait_for(lambda: measuring(parent.pid)).pop()
    parent.kill()
    parent.wait(timeout=30)
    wait_for(lambda: not alive(pid))


def test_a_process_without_a_result_is_an_error(
    job: Callable[..., RoundJob], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "saying.py").write_text("import sys; sys.stdin.read(); print('no JSON')")
    (tmp_path / "silent.py").write_text("import sys; sys.stdin.read()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(StageError, match="ended without a result"):
        process.run_worker(ModuleType("silent"), "{}", "says nothing")
    assert process.run_worker(ModuleType("saying"), "{}", "says something") == "no JSON"
    with pytest.raises(ValidationError):
        Round.model_validate_json("no JSON")
