"""compress, from a recipe to a bundle, on a tiny real BERT."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import compress_recipe, write_recipe
from fake_stages import NOT_IN_A_RECIPE, Cut, compressed, with_stages

from edgebert.bundle.manifest import BundleManifest
from edgebert.compress.run import Run
from edgebert.core.packages import package_version
from edgebert.core.store import ArtifactStore, hash_file, hash_json
from edgebert.models.sizes import LayerSizes
from edgebert.report.entry import Entry
from edgebert.report.file import read_report
from edgebert.report.text.removed import removal_lines
from edgebert.runtimes.target import Target
from edgebert.stages.export import Export
from edgebert.stages.quantize import Quantize


def run_record(folder: Path) -> Any:
    return json.loads((folder / "runs" / "recipe" / "run.json").read_text())


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    """A folder with the recipe and a run of it. Do not write into it."""
    folder = write_recipe(tmp_path_factory.mktemp("plain"), model_template)
    compress_recipe(folder)
    return folder


@pytest.fixture
def ran(plain_run: Path, tmp_path: Path) -> Path:
    """The recipe in a folder of the test's own, with the store and the results of a run of it."""
    return Path(shutil.copytree(plain_run, tmp_path, dirs_exist_ok=True)) / "recipe.yaml"


def test_compress_writes_a_bundle_and_a_verdict_and_finds_every_stage_again(cli: Any, ran: Path, tmp_path: Path) -> None:
    first = run_record(tmp_path)
    result = cli("compress", ran)
    second = run_record(tmp_path)
    assert result.code == 0, result.err
    assert "PASSED: onnxruntime/int8-dynamic" in result.out
    bundle = tmp_path / "runs" / "recipe" / "bundle"
    assert {"README.md", "config.json", "edgebert.json", "onnx", "report.json", "tokenizer.json"} <= {
        p.name for p in bundle.iterdir()
    }
    assert not any(step["found_in_store"] for step in first["steps"])
    assert all(step["found_in_store"] for step in second["steps"])
    assert [step["sha256"] for step in first["steps"]] == [step["sha256"] for step in second["steps"]]


def test_compress_keeps_the_best_and_exits_1_when_a_gate_fails(cli: Any, ran: Path, tmp_path: Path) -> None:
    result = cli("compress", ran, "--set", "gates=[{metric: size_mb, max: 0.000001}]")
    assert result.code == 1
    assert "FAILED: onnxruntime/int8-dynamic" in result.out
    assert "missed" in result.out
    assert json.loads((tmp_path / "runs/recipe/bundle/edgebert.json").read_text())["verdict"] == "FAILED"


@pytest.mark.parametrize(
    ("gates", "results"),
    [
        ("[{metric: p99_ms, max: 1000.0}]", ["not measured"]),  # 4 queries are too few for p99
        (
            "[{metric: macs, max_ratio: 0.34}, {metric: parameters, max: 30000}]",
            ["macs <= 0.34 of FP32: ", "missed", "parameters <= 30000: 2.371e+04, holds"],
        ),
    ],
    ids=["not measured", "nothing was removed"],
)
def test_compress_exits_1_when_a_gate_is_missed(cli: Any, ran: Path, gates: str, results: list[str]) -> None:
    result = cli("compress", ran, "--set", f"gates={gates}")
    assert result.code == 1
    assert all(text in result.out for text in results)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["static", "nncf"])
def test_compress_runs_each_calibrated_method(cli: Any, ran: Path, method: str) -> None:
    runtime = "openvino" if method == "nncf" else "onnxruntime"
    result = cli("compress", ran, "--set", f"stages.quantize.method={method}", "--set", f"targets=[{{runtime: {runtime}}}]")
    assert result.code == 0, result.err
    assert f"PASSED: {runtime}/int8-{method}" in result.out


@pytest.mark.slow
def test_bundle_does_not_reveal_where_it_was_made(cli: Any, recipe: Path, tmp_path: Path) -> None:
    assert cli("compress", recipe, "--set", f"model={tmp_path / 'model'}").code == 0
    for file in (tmp_path / "runs/recipe/bundle").rglob("*"):
        assert file.is_dir() or str(tmp_path).encode() not in file.read_bytes(), file


def test_run_reads_a_tab_as_a_space_where_the_model_takes_one_text(cli: Any, plain_run: Path) -> None:
    answers = [cli("run", plain_run / "runs/recipe/bundle", text, "--json") for text in ("good film", "good\tfilm")]
    assert [answer.code for answer in answers] == [0, 0]
    spaced, tabbed = (json.loads(answer.out)[0] for answer in answers)
    assert spaced["score"] == tabbed["score"]


def test_compress_refuses_to_judge_a_model_on_its_training_rows(cli: Any, recipe: Path) -> None:
    result = cli("compress", recipe, "--set", "data.eval=data/train.csv", "--set", "stages=[finetune, export]")
    assert result.code == 2
    assert "data.train and data.eval hold the same rows" in result.err


def test_gc_keeps_the_artifacts_of_a_finished_run_when_its_rerun_failed(cli: Any, ran: Path, tmp_path: Path) -> None:
    assert cli("compress", ran).code == 0
    assert cli("compress", ran, "--set", "data.eval.path=nowhere.csv").code == 2
    assert "dropped 0 artifacts" in cli("store", "gc").out
    assert cli("compress", ran).code == 0
    assert all(step["found_in_store"] for step in run_record(tmp_path)["steps"])


def test_bundle_opens_with_the_files_that_a_hub_client_adds(cli: Any, ran: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "runs/recipe/bundle"
    assert cli("verify", bundle).code == 0
    (bundle / ".gitattributes").write_text("*.onnx filter=lfs")
    (bundle / ".cache" / "huggingface").mkdir(parents=True)
    (bundle / ".cache" / "huggingface" / "model.lock").touch()
    assert cli("verify", bundle).code == 0


def test_bundle_names_no_fp32_graph_quantized(cli: Any, ran: Path, tmp_path: Path) -> None:
    assert cli("compress", ran, "--set", "stages=[export]").code == 0
    assert not (tmp_path / "runs/recipe/bundle/onnx/model_quantized.onnx").exists()
    assert cli("verify", tmp_path / "runs/recipe/bundle").code == 0


def test_problems_of_the_layout_have_their_line(cli: Any, recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("[dynamic]}\n", "[dynamic]}\n  - distill\n"))
    result = cli("validate", recipe)
    assert result.code == 2
    assert "line 10: stages.2.distill: changes the model after" in result.err


NAMES = ["onnxruntime/fp32", "onnxruntime/cut", "onnxruntime/cut-2", "onnxruntime/int8-dynamic"]


def test_report_has_an_entry_for_each_step_that_changed_the_weights(pruned: Run) -> None:
    entries = pruned.report.entries
    assert [(entry.name, entry.role) for entry in entries] == list(
        zip(NAMES, ("baseline", "intermediate", "intermediate", "candidate"), strict=True)
    )
    assert [entry.stage for entry in entries] == ["export-onnx", "cut", "cut", "int8-dynamic"]
    assert len({entry.artifact for entry in entries}) == 4
    for entry in entries:
        assert pruned.report.value(entry, "accuracy") is not None
        assert [len(measured.latencies_ns) for measured in entry.rounds] == [4]


def test_an_intermediate_is_never_judged_and_never_shipped(pruned: Run) -> None:
    assert [judged.entry.name for judged in pruned.verdict.judged_entries] == [NAMES[3]]
    assert pruned.verdict.best.entry.name == NAMES[3]
    manifest = BundleManifest.model_validate_json((pruned.bundle / "edgebert.json").read_bytes())
    assert [variant.name for variant in manifest.variants] == [NAMES[0], NAMES[3]]
    assert sorted(path.name for path in (pruned.bundle / "onnx").iterdir()) == ["model.onnx", "model_quantized.onnx"]


def eval_lengths(folder: Path) -> list[int]:
    """Tokens of each eval text, counted without edgebert."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "model" / "tokenizer.json"))
    tokenizer.enable_truncation(32)
    lines = (folder / "data" / "eval.csv").read_text().splitlines()[1:]
    return [len(tokenizer.encode(line.rsplit(",", 1)[0].strip('"').replace('""', '"')).ids) for line in lines]


def test_macs_are_those_of_the_encoder_on_the_eval_texts(pruned: Run) -> None:
    lengths = eval_lengths(pruned.folder.parents[1])
    assert len(lengths) == 24 and len(set(lengths)) > 1

    def by_hand(heads: int, neurons: int) -> float:
        projections, ffn = 4 * 32 * 8 * heads, 2 * 32 * neurons
        return float(np.mean([n * (projections + ffn) + 2 * n * n * 8 * heads for n in lengths]))

    found = [entry.macs for entry in pruned.report.entries]
    assert found == pytest.approx([by_hand(8, 128), by_hand(6, 80), by_hand(2, 16), by_hand(2, 16)])


def test_parameters_are_those_of_the_model_that_the_graph_was_made_from(pruned: Run) -> None:
    def by_hand(*layers: tuple[int, int]) -> int:
        embeddings = 104 * 32 + 64 * 32 + 2 * 32 + 2 * 32
        pooler_and_head = 32 * 32 + 32 + 2 * 32 + 2
        sizes = [4 * 32 * 8 * heads + 3 * 8 * heads + 32 + 2 * 32 * n + n + 32 + 4 * 32 for heads, n in layers]
        return embeddings + pooler_and_head + sum(sizes)

    found = [entry.parameters for entry in pruned.report.entries]
    assert found == [by_hand((4, 64), (4, 64)), by_hand((2, 16), (4, 64)), by_hand((2, 16)), by_hand((2, 16))]


def test_stored_report_says_what_is_left_of_each_encoder(pruned: Run) -> None:
    fp32, first, second, candidate = (entry.encoder for entry in read_report(pruned.folder / "report.json").entries)
    assert fp32 is not None and first is not None and second is not None and fp32.whole
    half = LayerSizes(place=0, heads=(0, 2), intermediate_size=16)
    assert first.layers == (half, LayerSizes(place=1, heads=(0, 1, 2, 3), intermediate_size=64))
    assert second.layers == (half,)  # the second cut kept heads 0 and 1 of those two
    assert (second.original_layers, second.original_heads, second.original_intermediate_size) == (2, 4, 64)
    assert candidate == second


def test_model_card_draws_what_was_removed(pruned: Run) -> None:
    card = (pruned.bundle / "README.md").read_text(encoding="utf-8")
    picture = removal_lines(pruned.report, pruned.verdict.best.entry)
    assert "## What was removed" in card and "```text\n" + "\n".join(picture) + "\n```" in card
    assert picture[:2] == ["layer 0  ■·■·  ██████░░░░░░░░░░░░░░░░░░  16 of 64", "layer 1  removed"]
    assert "An intermediate is the FP32 model after one stage" in card
    assert "| onnxruntime/cut-2 |" in card and "| 1/5.0 |" in card


def test_removal_is_not_mentioned_when_nothing_was_removed(cli: Any, ran: Path, tmp_path: Path) -> None:
    result = cli("compress", ran)
    card = (tmp_path / "runs/recipe/bundle/README.md").read_text(encoding="utf-8")
    assert result.code == 0
    for text in (result.out, card):
        assert "encoder" not in text and "layer 0" not in text and "MACs" not in text and "intermediate" not in text.lower()


@pytest.fixture(scope="module")
def cut_run(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    """A folder with a run of the stages cut, export and quantize. Do not write into it."""
    folder = write_recipe(tmp_path_factory.mktemp("cut"), model_template)
    compressed(folder, Cut(), Export(), Quantize())
    return folder


@pytest.fixture
def cut_recipe(cut_run: Path, tmp_path: Path) -> Path:
    """The recipe in a folder of the test's own, with the store of a run of the stages cut, export and quantize."""
    return Path(shutil.copytree(cut_run, tmp_path, dirs_exist_ok=True)) / "recipe.yaml"


@pytest.mark.slow
@pytest.mark.parametrize(("encoding", "heads"), [("utf-8", "■·■·"), ("ascii", "#.#.")])
@pytest.mark.filterwarnings(f"ignore:{NOT_IN_A_RECIPE}")
def test_compress_draws_what_was_removed_after_the_table(
    cli: Any, cut_recipe: Path, encoding: str, heads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = with_stages(cut_recipe, Cut(), Export(), Quantize())
    monkeypatch.setattr("edgebert.compress.recipe_file.load_recipe", lambda *arguments: file)
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    assert cli("compress", cut_recipe, "--quiet").code == 0
    text = raw.getvalue().decode(encoding)
    table, _, rest = text.partition("\n\n")
    assert table.splitlines()[2].startswith("onnxruntime/cut ")
    assert rest.startswith(f"What is left of the encoder in onnxruntime/int8-dynamic:\nlayer 0  {heads}  ")
    assert "\nlayer 1  removed\nkept: 1 of 2 layers, 2 of 8 heads, 16 of 128 FFN neurons\nMACs 1/5.0, parameters " in rest
    assert "\n\nPASSED: onnxruntime/int8-dynamic" in rest


def test_plan_names_the_intermediates(cli: Any, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = with_stages(recipe, Cut(), Export(), Quantize())
    monkeypatch.setattr("edgebert.compress.recipe_file.load_recipe", lambda *arguments: file)
    assert "FP32 against int8-dynamic; also after cut\n" in cli("plan", recipe).out


@pytest.mark.slow
def test_candidate_stands_once_when_a_recipe_ends_with_the_export(cut_recipe: Path, tmp_path: Path) -> None:
    found = compressed(tmp_path, Cut(), Export()).report.entries
    assert [(entry.name, entry.role) for entry in found] == [
        ("onnxruntime/fp32", "baseline"),
        ("onnxruntime/export-onnx", "candidate"),
    ]


@pytest.mark.slow
def test_equal_stages_after_each_cut_make_candidates_of_their_own(cut_recipe: Path, tmp_path: Path, cli: Any) -> None:
    ends = (Export(), Quantize())
    outcome = compressed(tmp_path, *ends, Cut(), *ends, Cut(kept=((0, (0,), 8),)), *ends)
    candidates = outcome.report.candidates()
    names = ["onnxruntime/int8-dynamic", "onnxruntime/int8-dynamic-2", "onnxruntime/int8-dynamic-3"]
    assert [entry.name for entry in candidates] == names
    assert [sum(entry.encoder.shape.heads) for entry in candidates if entry.encoder] == [8, 2, 1]
    manifest = BundleManifest.model_validate_json((outcome.bundle / "edgebert.json").read_bytes())
    assert len({variant.file for variant in manifest.variants}) == len(manifest.variants) == 4
    assert cli("verify", outcome.bundle).code == 0


@pytest.mark.slow
def test_an_intermediate_runs_as_fp32_does_when_candidates_are_tuned(cut_recipe: Path, tmp_path: Path) -> None:
    tuned = Target(runtime="onnxruntime", disabled_optimizers=("BiasGeluFusion",))
    found = compressed(tmp_path, Cut(), Export(), Quantize(), targets=(tuned,)).report
    assert [bool(entry.target.options.disabled_optimizers) for entry in found.entries] == [False, False, True]
    assert all(found.baseline_of(entry) is found.entries[0] for entry in found.entries)


def test_measurements_on_a_plain_target_have_the_keys_that_they_have_in_older_stores(pruned: Run) -> None:
    folder, report = pruned.folder.parents[1], pruned.report
    machine = report.environment

    def serving(entry: Entry) -> dict[str, Any]:
        return {
            "artifact": entry.artifact,
            "target": {"runtime": "onnxruntime", "threads": 1, "batch": 1, "padding": "longest", "length_bucket": None},
            "task": "text-classification",
            "labels": ["negative", "positive"],
            "max_length": 32,
            "pad_id": 0,
            "tokenizer": hash_file(folder / "model" / "tokenizer.json"),
        }

    shared = {"data": report.eval_data, "seed": 0, "version": 1}
    predictions = {
        "check": "predictions",
        **serving(report.entries[0]),
        "goldens": 2,
        "runtime": package_version("onnxruntime"),
        "machine": [machine.cpu, *machine.isa],
    }
    latency = {
        "check": "latency",
        "turns": 2,
        "contenders": [serving(entry) for entry in report.entries],
        "settings": {"rounds": 1, "queries": 4, "warmup": 1},
        "machine": machine.fingerprint,
    }
    for identity in (predictions, latency):
        assert ArtifactStore(folder / "store").get(hash_json({**shared, **identity})) is not None


@pytest.mark.slow
def test_intermediates_are_measured_on_the_first_target_only(cut_recipe: Path, tmp_path: Path) -> None:
    targets = (Target(runtime="onnxruntime"), Target(runtime="onnxruntime", batch=2))
    found = compressed(tmp_path, Cut(), Export(), Quantize(), targets=targets).report
    assert [entry.name for entry in found.entries if entry.role == "intermediate"] == ["onnxruntime/cut"]
    assert [entry.name for entry in found.candidates()] == ["onnxruntime/int8-dynamic", "onnxruntime-b2/int8-dynamic"]
