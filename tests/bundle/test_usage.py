"""The model card's code for other clients works when pasted, and answers as the variant was measured.

The clients of this environment run here; the others, in environments of their own, in benchmarks/clients.py.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from fast_export import traced
from tiny_families import tiny_folder
from tokenizers import Tokenizer

from edgebert import load
from edgebert.bundle.manifest import ManifestEntry
from edgebert.bundle.read import read_bundle
from edgebert.bundle.usage import CLIENTS, snippets
from edgebert.compress.run import Run
from edgebert.models.load import load_model
from edgebert.runtimes.serving import Serving
from edgebert.stages.export import onnx_graph
from edgebert.tasks import get_task

HERE = ("ONNX Runtime", "OpenVINO")
"""Clients whose packages are in this environment."""


@pytest.fixture(scope="module")
def shared(finished: Path) -> Path:
    """The finished bundle itself; do not write into it."""
    return finished / "runs" / "recipe" / "bundle"


def code_of(bundle: Path, title: str) -> str:
    """The code that the card has for a client."""
    card = (bundle / "README.md").read_text(encoding="utf-8")
    _, _, after = card.partition(f"<summary>{title}: ")
    return re.search(r"```(?:python|js)\n(.*?)```", after, re.DOTALL)[1]  # type: ignore[index]


def file_of(bundle: Path, title: str) -> str:
    """The file that it opens."""
    return (bundle / "README.md").read_text(encoding="utf-8").partition(f"<summary>{title}: ")[2].partition("<")[0]


def test_card_has_code_for_every_client_of_its_runtimes(shared: Path) -> None:
    variants = {variant.file: variant for variant in read_bundle(shared).variants}
    for client in CLIENTS:
        assert variants[file_of(shared, client.title)].target.runtime == client.runtime
        assert variants[file_of(shared, client.title)].status == "PASSED"
        assert client.install in (shared / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("title", HERE)
def test_pasted_code_answers_as_edgebert_does(shared: Path, title: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code_of(shared, title)], cwd=shared, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    label, score = ast.literal_eval(done.stdout)
    manifest = read_bundle(shared)
    variant = next(one for one in manifest.variants if one.file == file_of(shared, title))
    ours = load(shared, variant=variant.name)(min((row["text"] for row in manifest.goldens.rows), key=len))
    assert label == ours.label and score == pytest.approx(ours.score, abs=1e-4)  # type: ignore[attr-defined]


def test_pasted_code_cuts_as_edgebert_does(shared: Path) -> None:
    """The recipe's max_length is 32, far below the words of this text."""
    script = code_of(shared, "ONNX Runtime") + '\nprint(classify("good " * 200 + "awful " * 100))\n'
    done = subprocess.run([sys.executable, "-c", script], cwd=shared, capture_output=True, text=True, check=False)
    label, score = ast.literal_eval(done.stdout.splitlines()[-1])
    variant = next(one for one in read_bundle(shared).variants if one.file == file_of(shared, "ONNX Runtime"))
    ours = load(shared, variant=variant.name)("good " * 200 + "awful " * 100)
    assert label == ours.label and score == pytest.approx(ours.score, abs=1e-4)  # type: ignore[attr-defined]


TUNED = {
    "runtime": "onnxruntime",
    "threads": 2,
    "disabled_optimizers": ["SkipLayerNormFusion", "BiasGeluFusion"],
    "spinning": False,
    "denormals_as_zero": True,
    "arena": False,
}


def written(
    tmp_path: Path, entry: dict[str, Any], task: str = "text-classification", options: Any = None, **row: str
) -> dict[str, str]:
    """Client -> its code for one variant."""
    import jinja2

    from edgebert.bundle.write import HERE as TEMPLATES

    (tmp_path / "tokenizer.json").write_text(json.dumps({"truncation": {"direction": "Left"}}))
    loader = jinja2.FileSystemLoader([TEMPLATES / "usage"])
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    serving = Serving(get_task(task, options or {}), ("no", "yes"), 48, 7, tmp_path / "tokenizer.json")
    variant = ManifestEntry.model_validate(
        {
            "name": "v", "role": "candidate", "precision": "int8", "artifact": "0" * 64, "status": "PASSED", "reasons": (),
            "requires": {}, "tolerance": 0.1, "golden_outputs": {}, "file": "onnx/model_int8_auto.onnx", **entry,
        },
        strict=False,
    )  # fmt: skip
    found = snippets(serving, [variant], "v", row, lambda name, **values: environment.get_template(name).render(**values))
    return {item.client.title: item.code for item in found}


def test_code_says_everything_that_a_search_tuned(tmp_path: Path) -> None:
    code = written(tmp_path, {"target": TUNED}, text='a "quoted" text')
    assert set(code) == {"ONNX Runtime", "optimum-onnx", "sentence-transformers", "Transformers.js"}
    for title, text in code.items():
        assert "SkipLayerNormFusion" in text and "BiasGeluFusion" in text, title
        assert "session.intra_op.allow_spinning" in text and "session.set_denormal_as_zero" in text, title
        assert re.search(r"(intra_op_num_threads = |intraOpNumThreads: )2", text), title
        assert re.search(r"(enable_cpu_mem_arena = F|enableCpuMemArena: f)alse", text), title
        assert r'"a \"quoted\" text"' in text and "model_int8_auto" in text, title
        if title != "Transformers.js":
            ast.parse(text)
    assert 'enable_truncation(48, direction="left")' in code["ONNX Runtime"]
    assert 'truncation_side="left"' in code["optimum-onnx"] and "max_length=48" in code["sentence-transformers"]


@pytest.mark.parametrize(
    ("target", "onnx", "pipeline"),
    [
        ({"padding": "max_length"}, "enable_padding(length=48, pad_id=7)", 'padding="max_length", max_length=48'),
        ({"length_bucket": 16}, "enable_padding(pad_to_multiple_of=16, pad_id=7)", "padding=True, pad_to_multiple_of=16"),
        ({}, "no_padding()", "truncation=True)"),
    ],
)
def test_code_pads_as_it_was_measured(tmp_path: Path, target: dict[str, Any], onnx: str, pipeline: str) -> None:
    code = written(tmp_path, {"target": {"runtime": "onnxruntime", **target}}, text="a", text_pair="b")
    assert onnx in code["ONNX Runtime"] and pipeline in code["optimum-onnx"]
    assert "Transformers.js" not in code  # its pipeline takes no pairs
    assert 'classify("a", "b")' in code["ONNX Runtime"] and '"text_pair": "b"' in code["optimum-onnx"]


def test_openvino_is_held_to_the_precision_that_was_measured(tmp_path: Path) -> None:
    entry = {"file": "openvino/openvino_model_qint8_quantized.xml", "target": {"runtime": "openvino", "precision": "bf16"}}
    code = written(tmp_path, entry, text="a")
    assert set(code) == {"OpenVINO", "optimum-intel"}
    assert all('"INFERENCE_PRECISION_HINT": "bf16"' in text for text in code.values())
    assert 'subfolder="openvino", file_name="openvino_model_qint8_quantized.xml"' in code["optimum-intel"]


def test_labels_of_tokens_are_answered_for_each_token(tmp_path: Path) -> None:
    code = written(tmp_path, {"target": {"runtime": "onnxruntime"}}, task="token-classification", text="a")
    assert set(code) == {"ONNX Runtime", "optimum-onnx", "Transformers.js"}
    assert "zip(encoded.tokens" in code["ONNX Runtime"] and "ForTokenClassification" in code["optimum-onnx"]


def test_code_for_vectors_gives_those_of_edgebert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the prompt, the dimensions and the rounding of the recipe."""
    folder = tiny_folder("bert", "Model", tmp_path / "model")
    monkeypatch.setattr(onnx_graph, "onnx_program", traced)
    onnx_graph.export_model(
        load_model(folder, get_task("embedding")), get_task("embedding"), tmp_path / "model.onnx", name="it"
    )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    text = "a good\tfilm"
    for options in (
        {},
        {"prompts": {"query": 'the "film": '}, "prompt": "query", "dimensions": 8},
        {"vectors": "int8"},
        {"vectors": "binary", "dimensions": 8, "normalize": False},
    ):
        entry = {"file": "model.onnx", "target": {"runtime": "onnxruntime"}}
        code = written(tmp_path, entry, "embedding", options, text=text)
        shutil.copy(folder / "tokenizer.json", "tokenizer.json")
        task, rows = get_task("embedding", options), [{"text": text}]
        windows = task.encode(Tokenizer.from_file("tokenizer.json"), rows, 48)
        ids = np.array([windows[0].ids])
        (vector,) = session.run(
            ["sentence_embedding"], {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
        )
        (wanted,) = task.answer([{"sentence_embedding": vector[0]}], windows, rows, ())
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code["ONNX Runtime"], {})
        assert ast.literal_eval(printed.getvalue()) == pytest.approx(list(wanted.vector), abs=1e-6), options  # type: ignore[attr-defined]
        assert set(code) == {"ONNX Runtime"}


def test_card_of_a_cut_model_names_its_own_file(pruned: Run) -> None:
    assert file_of(pruned.bundle, "ONNX Runtime") == "onnx/model_quantized.onnx"
