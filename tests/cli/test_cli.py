"""The command line: every verb explains itself, results are data, errors say what to do and give their exit code."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import Result

from edgebert import load
from edgebert.cli.main import app
from edgebert.compress.recipe import json_schema
from edgebert.core.store import ArtifactStore
from edgebert.errors import EXIT_ENVIRONMENT, EXIT_GATE_FAILED, EXIT_INPUT, EXIT_INTERRUPTED
from edgebert.report.metric_table import GATED
from edgebert.version import __version__

OVERRIDES = (
    "--set",
    "stages.quantize.method=[dynamic, static, nncf]",
    "--set",
    "targets=[{runtime: onnxruntime}, {runtime: openvino}]",
    "--set",
    "measure={rounds: 1, queries: 16, warmup: 1, golden_inputs: 3}",
)
"""With these, recipe.yaml is the run that is finished."""


def verbs(command: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb, those of a group after the group itself."""
    yield name
    for inner, child in getattr(command, "commands", {}).items():
        yield from verbs(child, (*name, inner))


VERBS = list(verbs(typer.main.get_command(app)))


@pytest.fixture
def desk(finished: Path, tmp_path: Path, cli: Callable[..., Result]) -> Path:
    """A copy of the finished run and its store, in the folder that `cli` runs in."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_verbs_are_those_that_the_tests_know() -> None:
    names = {" ".join(verb) for verb in VERBS}
    assert names >= {"", "compress", "plan", "validate", "schema", "init", "run", "verify", "store", "store ls", "store gc"}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: " ".join(verb) or "edgebert")
def test_help_explains_every_verb_and_every_option(cli: Callable[..., Result], verb: tuple[str, ...]) -> None:
    result = cli(*verb, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.lower().startswith("usage: edgebert")
    assert "\n\n" in result.out
    options = [line for line in result.out.splitlines() if re.match(r"\s+-{1,2}\w", line)]
    assert any("--help" in line for line in options)
    explained = re.sub(r"\s+", " ", result.out.partition("Options:")[2])
    for option in re.findall(r"--[a-z][\w-]*", explained):
        assert re.search(rf"{option}[^.]*[a-z]{{3,}}", explained), option


def test_version_is_the_packages(cli: Callable[..., Result]) -> None:
    assert cli("--version").out == f"edgebert {__version__}\n"


def test_module_and_command_are_the_same() -> None:
    done = subprocess.run([sys.executable, "-m", "edgebert", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"edgebert {__version__}\n"


def cpu_seconds(*arguments: str) -> float:
    """User and system time of a fresh interpreter; the least of three, which is what it needs when nothing disturbs it."""
    spent = []
    for _ in range(3):
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        spent.append(usage.ru_utime + usage.ru_stime)
    return min(spent)


def test_help_costs_little_more_than_the_libraries_that_print_it() -> None:
    assert cpu_seconds("-m", "edgebert", "--help") < 3 * cpu_seconds("-c", "import typer, rich")


def parsed(result: Result, code: int = 0) -> Any:
    assert result.code == code, result.err
    return json.loads(result.out)


def test_compress_json_holds_the_verdict_the_metrics_and_the_gates(cli: Callable[..., Result], desk: Path) -> None:
    found = parsed(cli("compress", "recipe.yaml", *OVERRIDES, "--json", "--quiet"))
    assert found["verdict"] == "PASSED"
    assert found["bundle"] == str(Path("runs/recipe/bundle"))
    names = [model["name"] for model in found["models"]]
    assert found["best"] in names and len(names) == 5
    sure = {"speedup_interval", "speedup_sure"}
    for model in found["models"]:
        assert model.keys() == {"name", "role", *GATED, *(sure if model["role"] == "candidate" else ())}
    assert isinstance(found["disturbances"], list) and found["selection"] is None
    assert found["gates"][found["best"]] == [
        {"gate": "accuracy >= 0", "passed": True, "reason": found["gates"][found["best"]][0]["reason"]}
    ]
    assert all(isinstance(model["p50_ms"], float) and model["p99_ms"] is None for model in found["models"])


def test_compress_prints_its_result_to_standard_output_and_its_progress_to_standard_error(
    cli: Callable[..., Result], desk: Path
) -> None:
    result = cli("compress", "recipe.yaml", *OVERRIDES)
    assert result.code == 0
    assert "PASSED: " in result.out and "bundle: runs/recipe/bundle" in result.out
    assert "found in the store" not in result.out
    assert "int8-static: found in the store" in result.err
    assert cli("compress", "recipe.yaml", *OVERRIDES, "--quiet").err == ""


def test_compress_json_is_printed_when_a_gate_fails(cli: Callable[..., Result], desk: Path) -> None:
    gates = ("--set", "gates=[{metric: size_mb, max: 0.000001}]")
    found = parsed(cli("compress", "recipe.yaml", *OVERRIDES, *gates, "--json", "--quiet"), EXIT_GATE_FAILED)
    assert found["verdict"] == "FAILED"
    assert not any(result["passed"] for results in found["gates"].values() for result in results)


@pytest.mark.slow
def test_compress_measures_again_only_when_asked(cli: Callable[..., Result], desk: Path) -> None:
    report = desk / "runs" / "recipe" / "report.json"
    before = report.read_text()
    assert cli("compress", "recipe.yaml", *OVERRIDES).code == 0
    assert json.loads(report.read_text())["entries"] == json.loads(before)["entries"]
    assert cli("compress", "recipe.yaml", *OVERRIDES, "--remeasure").code == 0
    assert json.loads(report.read_text())["entries"] != json.loads(before)["entries"]


def test_plan_json_says_of_each_piece_whether_it_is_in_the_store(cli: Callable[..., Result], desk: Path) -> None:
    finished = {line["name"]: line["state"] for line in parsed(cli("plan", "recipe.yaml", *OVERRIDES, "--json"))}
    assert finished["int8-nncf"] == finished["export-onnx"] == finished["data.eval"] == "found"
    store = ("--store", "elsewhere")
    fresh = {line["name"]: line["state"] for line in parsed(cli("plan", "recipe.yaml", *OVERRIDES, *store, "--json"))}
    assert fresh["int8-nncf"] == fresh["export-onnx"] == fresh["data.eval"] == "runs"
    assert fresh.keys() == finished.keys()
    assert not (desk / "elsewhere").exists()


def test_plan_exits_2_when_data_is_missing(cli: Callable[..., Result], desk: Path) -> None:
    result = cli("plan", "recipe.yaml", "--set", "data.eval=absent.csv")
    assert result.code == EXIT_INPUT
    assert re.search(r"data\.eval\s+missing\s+.*absent\.csv", result.out)


def test_schema_prints_the_json_schema(cli: Callable[..., Result]) -> None:
    assert parsed(cli("schema")) == json.loads(json.dumps(json_schema()))


def test_run_json_answers_the_texts_in_their_order(cli: Callable[..., Result], desk: Path) -> None:
    texts = ["a good film", "an awful soup", '漢字 "quoted"']
    found = parsed(cli("run", "runs/recipe/bundle", *texts, "--json"))
    predictor = load("runs/recipe/bundle")
    assert [answer["text"] for answer in found] == texts
    assert [(answer["label"], answer["score"]) for answer in found] == [
        (answer.label, answer.score) for answer in predictor.predict(texts)
    ]


def test_run_reads_one_text_a_line_from_a_file_or_from_standard_input(
    cli: Callable[..., Result], desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = "\ufeffa good film\r\n\n  \nan awful\u2028soup\na\rreturn\nlast\tone".encode()
    (desk / "texts.txt").write_bytes(data)
    from_file = parsed(cli("run", "runs/recipe/bundle", "--file", "texts.txt", "--json"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    from_input = parsed(cli("run", "runs/recipe/bundle", "--json"))
    texts = ["a good film", "", "  ", "an awful\u2028soup", "a\rreturn", "last\tone"]
    assert [(answer["index"], answer["text"]) for answer in from_file] == list(enumerate(texts))
    assert from_input == from_file
    answered = [text for text in texts if text.strip()]
    scores = iter(answer.score for answer in load("runs/recipe/bundle").predict(answered))
    assert [answer["score"] for answer in from_file] == [next(scores) if text.strip() else None for text in texts]
    assert all(from_file[index].keys() == from_file[0].keys() and from_file[index]["label"] is None for index in (1, 2))


def test_run_prints_one_line_for_each_line(cli: Callable[..., Result], desk: Path) -> None:
    lines = ["a good film", "", "an awful\u2028soup", "two\x0bparts\x1b[2J", "", "ninety", *["more"] * 94]
    (desk / "lines.txt").write_text("\n".join(lines) + "\n", newline="")
    result = cli("run", "runs/recipe/bundle", "--in", "lines.txt", "--batch", "8", "--top-k", "2")
    assert result.code == 0, result.err
    printed = result.out.splitlines()
    assert len(printed) == len(lines) == 100
    assert printed[1].split() == printed[4].split() == ["-", "-", "-"]
    assert re.fullmatch(r"(\w+)\s+(0\.\d{4})  \1 \2, \w+ 0\.\d{4}  two\\x0bparts\\x1b\[2J", printed[3])
    assert "note: 2 of 100 lines are blank and have no answer" in result.err
    assert "answer 100 lines" in result.err
    quiet = cli("run", "runs/recipe/bundle", "--in", "lines.txt", "--quiet")
    assert quiet.err == "note: 2 of 100 lines are blank and have no answer\n"


def test_run_names_the_line_that_cannot_be_answered_before_it_answers_any(cli: Callable[..., Result], desk: Path) -> None:
    (desk / "lines.txt").write_bytes(b"good\n\n" + "half \ud83d".encode("utf-8", "surrogatepass") + b"\n")
    assert "lines.txt is not UTF-8 text" in cli("run", "runs/recipe/bundle", "--file", "lines.txt").err
    (desk / "lines.txt").write_text("good\n\nbad\n")
    refused = cli("run", "runs/recipe/bundle", "--file", "lines.txt", "--batch", "5000")
    assert refused.code == 2


def test_run_json_has_all_labels_and_the_logits_that_were_asked_for(cli: Callable[..., Result], desk: Path) -> None:
    plain, more, one = (
        parsed(cli("run", "runs/recipe/bundle", "a good film", "--json", *options))[0]
        for options in ((), ("--logits",), ("--top-k", "1"))
    )
    assert list(plain) == ["index", "text", "label", "score", "probabilities"]
    assert sum(plain["probabilities"].values()) == pytest.approx(1)
    assert next(iter(plain["probabilities"].items())) == (plain["label"], plain["score"])
    assert max(more["logits"], key=more["logits"].get) == plain["label"]
    assert one["probabilities"] == {plain["label"]: plain["score"]}


def test_run_takes_a_tab_between_the_sentences_of_a_pair(cli: Callable[..., Result], desk: Path) -> None:
    pairs = "{path: data/eval.csv, columns: {text_pair: text}}"
    settings = (f"data.eval={pairs}", "stages.quantize.method=dynamic", "targets=[{runtime: onnxruntime}]")
    made = cli("compress", "recipe.yaml", "--out", "runs/pair", *(word for setting in settings for word in ("--set", setting)))
    assert made.code == 0, made.err
    one, other = parsed(cli("run", "runs/pair/bundle", "a good film\tnot bad", "a good film\tan awful soup", "--json"))
    assert one["score"] != other["score"]
    predictor = load("runs/pair/bundle")
    assert predictor(("a good film", "not bad")).score == predictor(("a\tgood film", "not bad")).score == one["score"]
    assert predictor.predict([("a good film", "an awful soup")])[0].score == other["score"]
    three = cli("run", "runs/pair/bundle", "a\tb\tc")
    assert three.code == EXIT_INPUT and "Text 1: A text has 3 parts between tabs" in three.err
    alone = cli("run", "runs/pair/bundle", "a good film")
    assert alone.code == EXIT_INPUT
    assert "made for text and text_pair" in alone.err


def test_run_prints_label_score_and_text_in_columns(cli: Callable[..., Result], desk: Path) -> None:
    result = cli("run", "runs/recipe/bundle", "a good film", "an awful soup")
    assert result.code == 0
    for line, text in zip(result.out.splitlines(), ["a good film", "an awful soup"], strict=True):
        assert re.fullmatch(rf"(negative|positive)\s+[01]\.\d{{4}}  {text}", line)


def test_verify_json_says_how_far_each_variant_is_from_its_goldens(cli: Callable[..., Result], desk: Path) -> None:
    found = parsed(cli("verify", "runs/recipe/bundle", "--json"))["variants"]
    assert len(found) == 5
    assert all(test["state"] == "ok" and 0 <= test["difference"] < 1e-4 for test in found)


def test_store_ls_json_lists_the_manifests(cli: Callable[..., Result], desk: Path) -> None:
    found = parsed(cli("store", "ls", "--json"))
    artifacts = ArtifactStore(desk / "store").artifacts()
    assert [entry["key"] for entry in found] == [artifact.key for artifact in artifacts]
    assert {entry["made_by"]["name"] for entry in found} >= {"model", "data", "export", "quantize", "predict", "latency"}
    assert all([Path(run).name for run in entry["runs"]] == ["recipe"] and entry["size"] > 0 for entry in found)
    assert [entry["made"] for entry in found] == sorted(artifact.made for artifact in artifacts)
    shown = cli("store", "ls").out.splitlines()
    assert shown[-1].startswith(f"{len(found)} artifacts, ")
    assert all(line.endswith("runs/recipe") and entry["made"] in line for line, entry in zip(shown, found, strict=False))


def test_store_verify_exits_3_and_gc_altered_repairs_when_an_artifact_was_altered(
    cli: Callable[..., Result], desk: Path
) -> None:
    store = ArtifactStore(desk / "store")
    assert cli("store", "verify").code == 0
    graph = next(artifact for artifact in store.artifacts() if artifact.format == "onnx").path / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    broken = cli("store", "verify")
    assert broken.code == EXIT_ENVIRONMENT
    assert "model.onnx was altered" in broken.out and "gc --altered" in broken.err
    assert cli("store", "gc", "--altered").out == "dropped 1 altered artifacts\n"
    assert cli("store", "verify").code == 0


def test_store_gc_keeps_the_run_and_drops_everything_when_the_run_is_gone(cli: Callable[..., Result], desk: Path) -> None:
    for lease in (desk / "store" / "leases").iterdir():
        lease.unlink()  # it is that of the run which this one was copied from
    assert cli("compress", "recipe.yaml", *OVERRIDES).code == 0
    count = len(ArtifactStore(desk / "store").artifacts())
    assert cli("store", "gc").out.startswith("dropped 0 artifacts")
    shutil.rmtree(desk / "runs")
    assert cli("store", "gc").out.startswith(f"dropped {count} artifacts")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["store", "ls", "--fast"], "edgebert store ls --help lists what can be asked"),
        (["run", "runs/recipe", "text"], "Did you mean runs/recipe/bundle?"),
        (["verify", "recipe.yaml"], "There is no bundle folder"),
    ],
)
def test_error_goes_to_standard_error_with_a_way_on(
    cli: Callable[..., Result], desk: Path, arguments: list[str], message: str
) -> None:
    result = cli(*arguments)
    assert (result.code, result.out) == (EXIT_INPUT, "")
    assert result.err.startswith("error: ") and message in result.err


def test_an_unexpected_error_is_called_a_fault_in_edgebert_and_shows_its_traceback_when_asked(
    cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("edgebert.compress.recipe.json_schema", broken)
    result = cli("schema")
    assert result.code == EXIT_ENVIRONMENT
    assert result.err.startswith("error: ZeroDivisionError: by zero\n") and "EDGEBERT_DEBUG=1" in result.err
    monkeypatch.setenv("EDGEBERT_DEBUG", "1")
    traced = cli("schema")
    assert traced.code == EXIT_ENVIRONMENT and "Traceback" in traced.err and "in broken" in traced.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs: /dev/full, a device that is always full")
@pytest.mark.parametrize("debug", ["", "1"])
def test_a_full_disk_is_named_and_is_no_fault_of_edgebert(debug: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgebert", "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "EDGEBERT_DEBUG": debug},
        )
    assert done.returncode == EXIT_ENVIRONMENT
    assert "Standard output cannot be written: the disk is full." in done.stderr
    assert "fault in edgebert" not in done.stderr


@pytest.mark.parametrize(
    ("verb", "place", "left"),
    [
        (("compress", "recipe.yaml"), "edgebert.compress.recipe_file.load_recipe", "run the same command again"),
        (("schema",), "edgebert.compress.recipe.json_schema", "Nothing was written."),
    ],
)
def test_interrupt_exits_130_and_says_what_is_left(
    cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...], place: str, left: str
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupted)
    result = cli(*verb)
    assert result.code == EXIT_INTERRUPTED
    assert left in result.err


def test_command_ends_quietly_when_its_reader_goes_away() -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen([sys.executable, "-m", "edgebert", "schema"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
