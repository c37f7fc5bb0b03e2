"""`edgebert bench` from the command line: models in turns, every combination an entry, a report or nothing at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Result
from device_process import COMMAND, WORKSTATION, on_a_device

from edgebert.bundle.trust.sign import sign_bundle
from edgebert.errors import InputError, StageError
from edgebert.measure.bench import sweep
from edgebert.measure.bench.probe_worker import Probe
from edgebert.measure.bench.queries import Lengths
from edgebert.measure.bench.sweep import BenchOptions
from edgebert.measure.latency import latency
from edgebert.measure.latency.job import RoundJob
from edgebert.measure.machine.environment import read_environment
from edgebert.report.entry import Entry
from edgebert.report.file import read_report, write_report
from edgebert.report.report import Report
from edgebert.report.rounds import Round, Setting
from edgebert.report.text.bench_table import bound_held, remark_lines, speedup, summary, text_table
from edgebert.runtimes.target import Target

FAST = ("--queries", "6", "--rounds", "2", "--warmup", "2", "--no-settle")
CLI = Callable[..., Result]


@pytest.fixture
def desk(bundle: Path, finished: Path, tmp_path: Path) -> Path:
    """bundle/ and eval.csv in the folder that the command line runs in."""
    shutil.copyfile(finished / "data" / "eval.csv", tmp_path / "eval.csv")
    return tmp_path


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes and rounds are made up, for tests of everything around them; predictions are real."""

    def run_job(job: RoundJob) -> Round:
        samples, lengths = (1_000_000,) * 6, (7,) * 6
        return Round(round=job.round, process=job.process, latencies_ns=samples, tokenise_ns=(), lengths=lengths, load_ns=1)

    monkeypatch.setattr(latency, "run_job", run_job)
    monkeypatch.setattr(sweep, "probe", lambda *_, **__: Probe(query_s=0.001))


def measured(cli: CLI, desk: Path, *arguments: object) -> Report:
    result = cli("bench", *arguments, "--out", "bench.json", *FAST)
    assert result.code == 0, result.err
    return read_report(desk / "bench.json")


@pytest.mark.slow
def test_two_models_take_turns_and_are_compared(cli: CLI, desk: Path) -> None:
    result = cli("bench", "bundle", "--variant", "onnxruntime/int8-dynamic", "--baseline-variant", "onnxruntime/fp32", *FAST)
    assert result.code == 0, result.err
    report = read_report(desk / "bench.json")
    assert [(entry.name, entry.role) for entry in report.entries] == [
        ("onnxruntime/fp32", "baseline"),
        ("onnxruntime/int8-dynamic", "candidate"),
    ]
    baseline, candidate = report.entries
    assert [item.process for item in baseline.rounds] == [0, 3]  # the order rotates
    assert [item.process for item in candidate.rounds] == [1, 2]
    assert baseline.setting == candidate.setting and baseline.setting.queries
    assert all(len(item.latencies_ns) == len(item.lengths) == 6 for entry in report.entries for item in entry.rounds)
    assert all(len(item.end_to_end_ns) == 6 and item.pinned for entry in report.entries for item in entry.rounds)
    assert (report.task, report.labels, report.gates) == ("text-classification", ("negative", "positive"), ())
    assert report.environment.before is not None and report.environment.after is not None
    assert baseline.tokenizer == candidate.tokenizer != None  # noqa: E711
    table, *rest = result.out.split("\n\n")
    assert [line.split()[0] for line in table.splitlines()[:3]] == ["model", "onnxruntime/fp32", "onnxruntime/int8-dynamic"]
    assert "p99 needs 662 samples, here are 12: --queries 331 in 2 rounds" in rest[0]
    assert "onnxruntime/fp32 -> onnxruntime/int8-dynamic: " in rest[0]
    assert "smaller: size_mb" in rest[0] and "inconclusive: throughput" in rest[0]  # two processes tell nothing of times
    assert "2 models, 2 rounds: 4 fresh processes, about" in result.err
    assert result.out.endswith("report: bench.json\n")


@pytest.mark.slow
def test_every_combination_is_an_entry(cli: CLI, desk: Path) -> None:
    graph = desk / "bundle" / "onnx" / "model_quantized.onnx"
    loads = ("--scenario", "single-stream", "--scenario", "server", "--rate", "200")
    report = measured(cli, desk, graph, *loads, "--batch", "1,2", "--lengths", "data,12", "--rounds", "1", "--pin", "none")
    found = [(entry.setting.name, entry.target.batch) for entry in report.entries]
    names = [name + tail for name in ("single-stream", "server-200/s") for tail in ("", "-12")]
    assert sorted(found) == sorted((name, batch) for name in names for batch in (1, 2))
    assert {entry.name for entry in report.entries} == {"model_quantized"}
    fixed = [entry for entry in report.entries if entry.setting.lengths == "12"]
    assert all(set(item.lengths) == {12} and not len(item.end_to_end_ns) for entry in fixed for item in entry.rounds)
    assert all(entry.tokenizer is None for entry in fixed)
    assert len({entry.setting.queries for entry in report.entries}) == 4  # texts or lengths, for one or two a query
    assert not any(item.pinned for entry in report.entries for item in entry.rounds)


@pytest.mark.usefixtures("instant")
def test_the_same_questions_have_the_same_hash_in_another_report(cli: CLI, desk: Path) -> None:
    first = measured(cli, desk, "bundle", "--variant", "onnxruntime/fp32", "--rounds", "1")
    as_checked = "bundle --data eval.csv --queries 16 --warmup 1 --rounds 1 --no-settle --out bench.json"
    assert cli("bench", *as_checked.split()).code == 0
    compressed = read_report(desk / "bundle" / "report.json").entries[0]
    assert read_report(desk / "bench.json").entries[0].setting.queries == compressed.setting.queries
    again = measured(cli, desk, "bundle/onnx/model.onnx", "--rounds", "1")
    other = measured(cli, desk, "bundle/onnx/model.onnx", "--rounds", "1", "--seed", "1")
    hashes = [report.entries[0].setting.queries for report in (first, again, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert first.entries[0].artifact == again.entries[0].artifact


@pytest.mark.usefixtures("instant")
def test_answers_are_those_that_compress_found(cli: CLI, desk: Path) -> None:
    names = ("onnxruntime/fp32", "onnxruntime/int8-dynamic")
    chosen = ("--variant", names[1], "--baseline-variant", names[0])
    scored = measured(cli, desk, "bundle", *chosen, "--data", "eval.csv:text", "--label", "label")
    checked = read_report(desk / "bundle" / "report.json")
    for name in names:
        ours, theirs = (next(entry for entry in report.entries if entry.name == name) for report in (scored, checked))
        assert ours.statistics == theirs.statistics and set(ours.statistics) == {"accuracy", "macro_f1", "agreement"}
        assert scored.value(ours, "accuracy") == checked.value(theirs, "accuracy")
    assert scored.right_answers == checked.right_answers and scored.eval_data
    assert "accuracy" in cli("bench", "bundle", "--data", "eval.csv", "--label", "label", *FAST, "--rounds", "1").out


@pytest.mark.slow
def test_torch_is_measured_beside_a_bundle(cli: CLI, desk: Path, model_template: Path) -> None:
    shutil.copytree(model_template, desk / "service")
    result = cli("bench", "bundle", "--variant", "onnxruntime/fp32", "--baseline", "service", *FAST, "--rounds", "1", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["report"] == "bench.json"
    assert [(model["name"], model["target"], model["role"]) for model in found["models"]] == [
        ("service", "torch", "baseline"),
        ("onnxruntime/fp32", "onnxruntime", "candidate"),
    ]
    assert found["models"][0]["p50_ms"] is None and found["models"][0]["samples"] == 6
    assert found["models"][0]["peak_rss_mb"] > found["models"][1]["peak_rss_mb"]  # torch is the larger library


@pytest.mark.usefixtures("instant")
def test_several_models_that_share_a_name_get_names_that_differ(cli: CLI, desk: Path) -> None:
    for name in ("old", "new"):
        (desk / name).mkdir()
        shutil.copyfile(desk / "bundle" / "onnx" / "model.onnx", desk / name / "model.onnx")
    report = measured(cli, desk, "old/model.onnx", "new/model.onnx", "--lengths", "8", "--rounds", "1")
    assert [(entry.name, entry.role) for entry in report.entries] == [("old/model", "candidate"), ("new/model", "candidate")]
    assert report.entries[0].artifact == report.entries[1].artifact
    assert report.task is None and report.labels == ()


@pytest.mark.usefixtures("instant")
def test_notes_say_what_is_unusual(cli: CLI, desk: Path) -> None:
    shutil.copyfile(desk / "bundle" / "onnx" / "model.onnx", desk / "alone.onnx")
    cores = len(os.sched_getaffinity(0))
    result = cli(
        "bench", "alone.onnx", "bundle", "--threads", cores + 1, "--batch", "2", "--data", "eval.csv", *FAST, "--rounds", "1"
    )
    assert result.code == 0, result.err
    assert f"warning: {cores + 1} threads on {cores} core" in result.err
    assert "is measured at another batch than its answers were checked at" in result.err
    assert "alone has no tokenizer" in result.err
    assert "2 models" in result.err
    quiet = cli("bench", "alone.onnx", "--lengths", "8", *FAST, "--rounds", "1", "--quiet")
    assert (quiet.code, quiet.err) == (0, "")


REFUSED: list[tuple[tuple[str, ...], int, str]] = [
    ((), 2, "Missing argument 'MODEL'"),
    (("absent",), 2, "There is no absent"),
    (("bundle", "--rate", "5"), 2, "--rate belongs to the server scenario"),
    (("bundle", "--rate", "5,x", "--scenario", "server"), 2, "--rate 5,x: not all are numbers"),
    (("bundle", "--bound-percent", "90", "--scenario", "server", "--rate", "5"), 2, "--bound-percent says at which"),
    (("bundle", "--threads", "1025"), 2, "'1025' is not a number from 1 to 1024"),
    (("bundle", "--instances", "999", "--scenario", "offline"), 2, "--instances"),
    (("bundle", "--queries", "100000", "--batch", "512"), 2, "100020 queries of 512 texts are 51,210,240 texts"),
    (("bundle", "--rounds", "1000000"), 2, "--rounds"),
    (("bundle", "--bound", "5"), 2, "--bound belongs to the server scenario"),
    (("bundle", "--scenario", "server"), 2, "needs a rate"),
    (("bundle", "--scenario", "server", "--rate", "nan"), 2, "--rate nan is not a number above 0"),
    (("bundle", "--scenario", "server", "--rate", "5", "--bound", "-1"), 2, "--bound -1 is not a number above 0"),
    (("bundle", "--scenario", "server", "--rate", "5", "--bound", "1", "--bound-percent", "97"), 2, "Take one of 50, 90"),
    (("bundle", "--scenario", "steam"), 2, "There is no scenario steam"),
    (("bundle", "--streams", "2"), 2, "--streams belongs to the multi-stream scenario"),
    (("bundle", "--instances", "2"), 2, "single-stream sends one"),
    (("bundle", "--batch", "0"), 2, "--batch 0: '0' is not a number from 1"),
    (("bundle", "--threads", "1,x"), 2, "'x' is not a number"),
    (("bundle", "--lengths", "99"), 2, "99 tokens are more than the 32"),
    (("bundle", "--lengths", "log:absent"), 2, "There is no log absent"),
    (("bundle", "--pin", "all"), 2, "--pin all is no list of cores"),
    (("bundle", "--pin", "4095"), 2, "There is no core 4095"),
    (("bundle", "--data", "absent.csv"), 2, "There is no data file absent.csv"),
    (("bundle", "--data", "eval.csv:sentence"), 2, "has no column `sentence`"),
    (("bundle", "--label", "label"), 2, "--label names a column of --data"),
    (("bundle", "--data", "eval.csv", "--label", "text"), 2, "name the labels in the order of the model's outputs"),
    (("bundle/onnx/model.onnx", "--variant", "x"), 2, "--variant names a part of a bundle"),
    (("bundle", "--baseline", "bundle/onnx/model.onnx", "--baseline-variant", "x"), 2, "--baseline-variant names a part"),
    (("bundle", "--runtime", "tensorrt"), 2, "--runtime"),
    (("bundle", "--tokenizer", "absent"), 2, "There is no tokenizer absent"),
    (("bundle", "--out", "eval.csv"), 2, "bench did not write it"),
    (("bundle", "--out", "."), 2, "is a folder"),
    (("bundle", "--out", "/dev/null", "--force"), 2, "is no file"),
    (("bundle", "--out", "bundle/bench.json"), 2, "lies in the bundle"),
    (("bundle", "--out", "eval.csv/bench.json"), 2, "cannot be written"),
    (("bundle", "--out", "x" * 300), 2, "too long"),
]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
@pytest.mark.usefixtures("instant")
def test_what_cannot_be_measured_is_refused_and_nothing_is_touched(cli: CLI, desk: Path) -> None:
    before = contents(desk)
    for arguments, code, message in REFUSED:
        result = cli("bench", *arguments)
        assert (result.code, result.out) == (code, ""), arguments
        assert "error: " in result.err and message in result.err, arguments
        assert "Traceback" not in result.err and "fault in edgebert" not in result.err, arguments
        assert contents(desk) == before, arguments


def test_a_graph_that_cannot_be_opened_leaves_the_last_report(cli: CLI, desk: Path) -> None:
    measured(cli, desk, "bundle/onnx/model.onnx", "--lengths", "8", "--rounds", "1")
    kept = (desk / "bench.json").read_bytes()
    (desk / "broken.onnx").write_bytes(b"no graph")
    result = cli("bench", "bundle/onnx/model.onnx", "broken.onnx", *FAST)
    assert (result.code, result.out) == (2, "")
    assert "broken.onnx" in result.err
    assert (desk / "bench.json").read_bytes() == kept


@pytest.mark.usefixtures("instant")
def test_only_a_report_of_bench_is_replaced_without_force(cli: CLI, desk: Path) -> None:
    arguments = ("bench", "bundle/onnx/model.onnx", "--lengths", "8", *FAST, "--rounds", "1", "--out", "mine.json")
    assert cli(*arguments).code == 0
    again = cli(*arguments)
    assert again.code == 0 and "mine.json is there already: it is replaced" in again.err
    shutil.copyfile(desk / "bundle" / "report.json", desk / "mine.json")  # compress wrote this one
    assert cli(*arguments).code == 2
    assert cli(*arguments, "--force").code == 0
    assert read_report(desk / "mine.json").entries[0].stage == "bench"


@pytest.mark.usefixtures("instant")
def test_no_measurement_replaces_another_unless_it_is_named(cli: CLI, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("bench", "bundle/onnx/model.onnx", "--lengths", "8", *FAST, "--rounds", "1")
    for name in ("bench.json", "bench-2.json", "bench-3.json"):
        result = cli(*arguments)
        assert result.code == 0 and result.out.endswith(f"report: {name}\n")
    assert len({(desk / name).read_bytes() for name in ("bench.json", "bench-2.json", "bench-3.json")}) == 3
    monkeypatch.setenv("HOME", str(desk / "home"))
    (desk / "home").mkdir()
    shutil.copyfile(desk / "eval.csv", desk / "home" / "mine.csv")
    (desk / "home" / "log.txt").write_text("7\n")
    homely = ("--lengths", "data", "--lengths", "log:~/log.txt", "--data", "~/mine.csv:text", "--out", "~/new/r.json")
    result = cli("bench", "bundle/onnx/model.onnx", *FAST, "--rounds", "1", *homely)
    assert result.code == 0, result.err
    assert {item.setting.name for item in read_report(desk / "home" / "new" / "r.json").entries} == {
        "single-stream",
        "single-stream-log-log",
    }


@pytest.mark.usefixtures("instant")
def test_a_report_that_cannot_be_written_at_the_end_is_printed_and_kept_elsewhere(
    cli: CLI, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgebert.measure.bench import out_file

    def full(file: Path, report: Report) -> None:
        if file.parent == desk or not spare:
            raise InputError(f"{file} cannot be written: No space left on device.")
        write_report(file, report)

    spare = ["the folder for temporary files"]
    elsewhere = desk / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(out_file, "write_report", full)
    monkeypatch.setattr(out_file.tempfile, "tempdir", str(elsewhere))
    result = cli("bench", "bundle/onnx/model.onnx", "--lengths", "8", *FAST, "--rounds", "1")
    (rescued,) = elsewhere.glob("*/bench.json")
    assert result.code == 2 and "p50 ms" in result.out and "No space left on device" in result.err
    assert f"The report is in {rescued} instead" in result.err
    assert len(read_report(rescued).entries) == 1
    spare.clear()
    result = cli("bench", "bundle/onnx/model.onnx", "--lengths", "8", *FAST, "--rounds", "1", "--json")
    assert result.code == 2 and "in what was printed alone" in result.err
    assert json.loads(result.out)["report"] is None and len(json.loads(result.out)["models"]) == 1


def test_where_nothing_can_be_written_nothing_is_measured(cli: CLI, desk: Path) -> None:
    result = cli("bench", "bundle/onnx/model.onnx", "--out", "/proc/bench.json")
    assert result.code == 2 and "/proc/bench.json cannot be written" in result.err
    assert "look at" not in result.err


@pytest.mark.usefixtures("instant")
def test_whole_rounds_are_kept_when_a_later_one_fails(cli: CLI, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = latency.run_job
    for fault, code, message in (
        (StageError("The process died."), 3, "The process died."),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ):
        ran: list[int] = []

        def fails(job: RoundJob, fault: BaseException = fault, ran: list[int] = ran) -> Round:
            ran.append(job.round)
            if len(ran) == 4:  # the second round's last
                raise fault
            return asked(job)

        monkeypatch.setattr(latency, "run_job", fails)
        (desk / "kept.json").unlink(missing_ok=True)
        both = ("--baseline-variant", "onnxruntime/fp32", "--variant", "onnxruntime/int8-dynamic")
        result = cli("bench", "bundle", *both, *FAST, "--rounds", "3", "--out", "kept.json")
        assert result.code == code and message in result.err
        assert "1 of 3 rounds were measured as a whole; they are in kept.json" in result.err
        assert "Nothing was written" not in result.err and "onnxruntime/fp32" in result.out
        assert [len(item.rounds) for item in read_report(desk / "kept.json").entries] == [1, 1]
        ran[:] = [0, 0, 0]  # fails in the first round
        (desk / "kept.json").unlink()
        assert cli("bench", "bundle", *FAST, "--out", "kept.json").code == code
        assert not (desk / "kept.json").exists()


@pytest.mark.usefixtures("instant")
def test_a_bare_graph_runs_as_the_bundle_that_it_is_compared_with(cli: CLI, desk: Path) -> None:
    manifest = json.loads((desk / "bundle" / "edgebert.json").read_text())
    for variant in manifest["variants"]:
        variant["target"]["batch"], variant["target"]["threads"] = 2, 2
    (desk / "bundle" / "edgebert.json").write_text(json.dumps(manifest))
    sign_bundle(desk / "bundle")
    graph = "bundle/onnx/model.onnx"
    result = cli(
        "bench", "bundle", "--variant", "onnxruntime/int8-dynamic", "--baseline", graph, *FAST, "--json", "--out", "a.json"
    )
    assert result.code == 0, result.err
    assert "model is measured at threads 2 and batch 2, like the model that it is compared with" in result.err
    assert [(item["threads"], item["batch"]) for item in json.loads(result.out)["models"]] == [(2, 2)] * 2
    named = cli("bench", "bundle", "--baseline", graph, "--threads", "1", *FAST, "--json", "--out", "b.json")
    assert [(item["threads"], item["batch"]) for item in json.loads(named.out)["models"]] == [(1, 2)] * 2


@pytest.mark.slow
def test_interrupted_it_leaves_the_last_report_as_it_was(cli: CLI, desk: Path) -> None:
    measured(cli, desk, "bundle/onnx/model.onnx", "--lengths", "8", "--rounds", "1")
    before = contents(desk)
    arguments = ["bench", "bundle/onnx/model.onnx", "--queries", "5000", "--rounds", "500"]
    command = [sys.executable, "-c", COMMAND, *arguments]
    process = subprocess.Popen(command, cwd=desk, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    while "measure latency" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(timeout=60) == 130
    process.stderr.close()
    assert contents(desk) == before


@pytest.mark.slow
def test_bench_runs_where_only_the_device_install_is_there(desk: Path, model_template: Path) -> None:
    absent = WORKSTATION | {"openvino", "scipy", "plotly"}
    shutil.copytree(model_template, desk / "service")
    chosen = ("--variant", "onnxruntime/int8-dynamic", "--baseline-variant", "onnxruntime/fp32", "--data", "eval.csv")
    done = on_a_device("bench", "bundle", *chosen, "--label", "label", *FAST, absent=absent, cwd=desk)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout and "no verdicts here: Comparing needs the package scipy" in done.stdout
    assert len(read_report(desk / "bench.json").entries) == 2
    done = on_a_device("bench", "service", absent=absent, cwd=desk)
    assert done.returncode == 3
    assert 'pip install "edgebert[compress]"' in done.stderr
    done = on_a_device("bench", "bundle/openvino/openvino_model.xml", absent=absent, cwd=desk)
    assert done.returncode == 3
    assert 'pip install "edgebert[openvino]"' in done.stderr


def entry(name: str, latencies: list[int], *, role: str = "candidate", **fields: Any) -> Entry:
    """One with two rounds of these latencies in microseconds."""
    base: dict[str, Any] = {"load_ns": 1, "tokenise_ns": (), "wall_ns": sum(latencies) * 1000, "examples": len(latencies)}
    known = {key: fields.pop(key) for key in list(fields) if key in Round.model_fields}
    samples = tuple(value * 1000 for value in latencies)
    rounds = tuple(
        Round(round=number, latencies_ns=samples, lengths=(7,) * len(latencies), **{**base, **known}) for number in (0, 1)
    )
    chosen: dict[str, Any] = {"target": Target(runtime="onnxruntime"), "size_bytes": 10**6, **fields}
    return Entry(name=name, role=role, stage="bench", artifact="a" * 64, rounds=rounds, **chosen)  # type: ignore[arg-type]


def report(*entries: Entry) -> Report:
    """A report of a machine on which nobody else worked."""
    machine = read_environment().model_copy(update={"load_average": 0.0, "before": None})
    return Report(
        recipe="r",
        task=None,
        labels=(),
        eval_data=None,
        environment=machine,
        gates=(),
        entries=entries,
    )


def test_a_candidate_is_set_beside_the_baseline_of_its_own_load() -> None:
    server = Setting(scenario="server", rate=5.0)
    found = report(
        entry("old", [4000] * 16, role="baseline"),
        entry("old", [9000] * 16, role="baseline", setting=server),
        entry("new", [2000] * 16),
        entry("new", [3000] * 16, setting=server),
        entry("new", [3000] * 16, target=Target(runtime="onnxruntime", batch=8)),
    )
    assert [speedup(found, item) for item in found.entries] == [None, None, 2.0, 3.0, None]  # nothing ran at batch 8 but one
    title, *rows = text_table(found, 1000)[:6]
    end = title.index("faster") + len("faster")
    assert [row[:end].split()[-1] for row in rows] == ["n/a", "n/a", "2.00x", "3.00x", "n/a"]
    assert "nothing was compared" not in "\n".join(remark_lines(found))
    assert remark_lines(report(found.entries[0], found.entries[4]))[-1] == (
        "nothing was compared, for no two ran at the same threads and batch: add --threads 1 --batch 8"
    )
    offline = Setting(scenario="offline")
    pair = report(entry("old", [4000] * 4, role="baseline", setting=offline), entry("new", [1000] * 4, setting=offline))
    assert speedup(pair, pair.entries[1]) == 4.0  # by throughput, which needs no percentile


def test_a_bound_holds_only_where_enough_samples_say_so() -> None:
    bound = Setting(scenario="server", rate=5.0, bound_ms=5.0, bound_percent=90)
    held, missed, few = (
        entry("held", [4000] * 40, setting=bound),
        entry("missed", [6000] * 40, setting=bound),
        entry("few", [4000] * 10, setting=bound),
    )
    assert [bound_held(item) for item in (held, missed, few, entry("none", [1000] * 40))] == [True, False, None, None]
    found = report(held, missed, few)
    title, *rows = text_table(found, 1000)[:4]
    end = title.index("bound") + len("bound")
    assert [row[:end].split()[-1] for row in rows] == ["held", "missed", "n/a"]
    remarks = "\n".join(remark_lines(found))
    assert "held, server-5/s: p90 4.00 ms, the bound of 5 ms at p90 held" in remarks
    assert "missed, server-5/s: p90 6.00 ms, the bound of 5 ms at p90 was missed" in remarks
    assert "few, server" not in remarks


def test_a_bound_is_missed_where_a_lower_percentile_is_over_it_already() -> None:
    bound = Setting(scenario="server", rate=5.0, bound_ms=5.0, bound_percent=99)
    over, under = entry("over", [6000] * 40, setting=bound), entry("under", [4000] * 40, setting=bound)
    assert [bound_held(over), bound_held(under)] == [False, None]  # p99 would take 662
    assert "over, server-5/s: p90 6.00 ms, the bound of 5 ms at p99 was missed" in remark_lines(report(over, under))


def test_marks_say_how_many_rounds_were_disturbed() -> None:
    found = report(entry("m", [1000] * 400, stable=False, throttled=True, overhead_ns=250.0, pinned=(1, 2), isa="amx"))
    assert remark_lines(found) == [
        "m, single-stream, onnxruntime: latency had not settled in 2 of 2 rounds; the machine throttled in 2 of 2 rounds",
        "the loop itself costs 0.25 us a query, not subtracted; pinned to core 1,2; INT8 could use amx",
    ]


@pytest.mark.parametrize("width", [1000, 120, 80, 60, 20])
def test_the_table_fits_the_terminal_and_says_what_had_to_go(width: int) -> None:
    found = report(entry("a-model-of-some-name", [1000] * 400, cold_start_ns=5, pss_bytes=7, peak_rss_bytes=9))
    lines = text_table(found, width)
    assert len(lines[0]) <= width or width == 20  # what is left at 20 is never dropped
    assert "p50 ms" in lines[0] and "model" in lines[0]
    gone = next((line for line in lines if line.startswith("(no room for ")), "")
    for title in ("p90 ms", "PSS MB", "size MB", "texts/s"):
        assert (title in lines[0]) != (title in gone)
    assert "(not measured: end-to-end ms, mJ/text)" in lines


def test_what_was_not_measured_is_none_in_json() -> None:
    (found,) = summary(report(entry("m", [1000] * 4)))
    assert found["p50_ms"] is found["energy_mj_per_text"] is found["speedup"] is None
    assert (found["samples"], found["size_mb"], found["setting"]["scenario"]) == (8, 1.0, "single-stream")
    json.dumps(found, allow_nan=False)


def test_options_refuse_what_does_not_go_together() -> None:
    with pytest.raises(InputError, match="needs a rate"):
        BenchOptions(scenarios=("server",)).check()
    both = BenchOptions(scenarios=("server", "offline"), rates=(5.0, 5.0, 7.0), lengths=(Lengths("data"),) * 2, bound_ms=3.0)
    both.check()
    assert [setting.name for setting, _ in both.settings()] == ["server-5/s", "server-7/s", "offline"]
    assert [setting.bound_ms for setting, _ in both.settings()] == [3.0, 3.0, None]


def test_report_of_bench_is_read_back_as_it_was(tmp_path: Path) -> None:
    made = report(entry("m", [1000, 2000]), entry("m", [3000], setting=Setting(lengths="32")))
    write_report(tmp_path / "r.json", made)
    assert read_report(tmp_path / "r.json").entries == made.entries
