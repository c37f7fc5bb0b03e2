"""A pruned BERT on disk and in the runtimes: it saves, loads by the Auto classes, in a new process too, exports and answers."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_bert import KINDS, assert_same, batch_of, build, difference, outputs, silenced, summed_loss
from transformers import AutoConfig, AutoModelForSequenceClassification, BertForQuestionAnswering, BertForSequenceClassification

from edgebert.core.packages import quiet_libraries
from edgebert.errors import SourceError
from edgebert.models.families.bert import BERT
from edgebert.models.load import load_model, save_model
from edgebert.models.pruned import CLASSES, CONFIGS, register
from edgebert.models.surgery import Units, encoder_of, layers_of, prune, shape_of
from edgebert.runtimes import get_runtime
from edgebert.runtimes.base import Session
from edgebert.runtimes.openvino import convert_to_openvino
from edgebert.runtimes.target import Target
from edgebert.stages.export import export_onnx
from edgebert.tasks import get_task
from edgebert.tasks.base import Output, Task
from edgebert.tasks.text_classification import TextClassification

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
every_attention = pytest.mark.parametrize("attention", [None, "eager", "sdpa"])
KEPT = {0: Units((0, 2, 3), (1, 5, 20)), 2: Units((3,), tuple(range(0, 24, 2)))}
BATCH = batch_of([2, 9, 5], padding=2)
TASK = get_task("text-classification")


class Spans(TextClassification):
    """Finds answers, as far as loading and exporting are concerned."""

    name = "spans"
    optimum_task = "question-answering"
    head = "qa_outputs"
    reads = "all"
    architecture = "ForQuestionAnswering"
    outputs = (Output("start_logits", ("tokens",)), Output("end_logits", ("tokens",)))


def pruned_bert(kind: Any = BertForSequenceClassification, **options: Any) -> Any:
    """Two of three layers, of unequal sizes."""
    return prune(build(kind, layers=3, **options), KEPT)


def load(kind: Any, folder: Path, attention: str | None) -> Any:
    """By the Auto class; nothing missing and nothing left over."""
    options = {} if attention is None else {"attn_implementation": attention}
    with quiet_libraries():
        model, report = KINDS[kind].from_pretrained(folder, use_safetensors=True, output_loading_info=True, **options)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


@every_kind
@every_attention
def test_a_pruned_model_saves_and_loads(kind: Any, attention: str | None, tmp_path: Path) -> None:
    model = pruned_bert(kind)
    save_model(model, tmp_path)
    assert {"config.json", "model.safetensors"} <= {file.name for file in tmp_path.iterdir()}
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = load(kind, tmp_path, attention)
    assert type(loaded) is CLASSES[kind] is type(model)
    assert loaded.config._attn_implementation == (attention or "sdpa")
    bert = encoder_of(loaded)
    configs = [loaded.config, bert.config, bert.encoder.config, *(layer.attention.self.config for layer in layers_of(loaded))]
    assert {id(config) for config in configs} == {id(loaded.config)}
    assert shape_of(loaded) == shape_of(model)
    assert_same(outputs(loaded, BATCH), outputs(silenced(build(kind, layers=3), KEPT), BATCH))
    # Padding has no influence: each text alone says the same.
    for row, length in enumerate([2, 9, 5]):
        alone = {name: value[row : row + 1, :length] for name, value in BATCH.items()}
        whole = {name: value[row : row + 1] for name, value in BATCH.items()}
        assert_same(outputs(loaded, alone), outputs(loaded, whole))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_attention_of_a_loaded_model_can_be_changed(attention: str, tmp_path: Path) -> None:
    model = pruned_bert()
    save_model(model, tmp_path)
    loaded = load(BertForSequenceClassification, tmp_path, "sdpa" if attention == "eager" else "eager")
    loaded.set_attn_implementation(attention)
    assert {layer.attention.self.config._attn_implementation for layer in layers_of(loaded)} == {attention}
    assert_same(outputs(loaded, BATCH), outputs(model, BATCH))


def test_a_loaded_model_is_pruned_and_saved_again(tmp_path: Path) -> None:
    save_model(pruned_bert(), tmp_path / "once")
    once = load_model(tmp_path / "once", TASK)
    kept = {1: Units((0,), (2, 11))}
    save_model(prune(once, kept), tmp_path / "twice")
    twice = load_model(tmp_path / "twice", TASK)
    assert_same(outputs(twice, BATCH), outputs(silenced(once, kept), BATCH))
    found = json.loads((tmp_path / "twice" / "config.json").read_text())
    wanted = {
        "model_type": BERT.pruned_type,
        "architectures": ["PrunedBertForSequenceClassification"],
        "num_hidden_layers": 1,
        "layer_heads": [1],
        "layer_intermediate_sizes": [2],
        "attention_head_size": 8,
        "source_layers": [2],
        "source_heads": [[3]],
        "source_num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 24,
    }
    assert {name: found.get(name) for name in wanted} == wanted


@pytest.mark.slow
def test_a_fresh_process_loads_it(tmp_path: Path) -> None:
    model = pruned_bert()
    save_model(model, tmp_path / "model")
    torch.save({"batch": BATCH, "wanted": outputs(model, BATCH)}, tmp_path / "wanted.pt")
    code = """
import sys, torch
from pathlib import Path
from edgebert.models.load import load_model
from edgebert.tasks import get_task
assert "edgebert.models.pruned" not in sys.modules  # load_model itself must register the classes
folder = Path(sys.argv[1])
model = load_model(folder / "model", get_task("text-classification"))
assert type(model).__name__ == "PrunedBertForSequenceClassification"
saved = torch.load(folder / "wanted.pt", weights_only=True)
with torch.no_grad():
    torch.testing.assert_close(model(**saved["batch"]).logits, saved["wanted"][0], atol=1e-4, rtol=0)  # of logits up to 4
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    model = pruned_bert()
    save_model(model, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(SourceError, match="cannot be loaded as text-classification"):
        load_model(tmp_path, TASK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer_heads": [3]}, "layer_heads has 1 entries for 2 layers"),
        ({"layer_intermediate_sizes": [3, 12, 5]}, "layer_intermediate_sizes has 3 entries for 2 layers"),
        ({"num_hidden_layers": 1}, "layer_heads has 2 entries for 1 layers"),
        ({"layer_heads": [3, 2]}, "has the shape"),
        ({"layer_intermediate_sizes": [3, 11]}, "has the shape"),
    ],
)
def test_a_config_that_contradicts_itself_or_the_weights_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save_model(pruned_bert(), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(SourceError, match=message):
        load_model(tmp_path, TASK)


def test_registering_twice_does_no_harm(tmp_path: Path) -> None:
    register()
    model = pruned_bert()
    save_model(model, tmp_path)
    with quiet_libraries():
        assert isinstance(AutoConfig.from_pretrained(tmp_path), CONFIGS["bert"])
        assert type(AutoModelForSequenceClassification.from_config(model.config)) is type(model)


@every_attention
def test_every_weight_of_a_pruned_model_learns(attention: str | None, tmp_path: Path) -> None:
    save_model(pruned_bert(), tmp_path)
    model = load(BertForSequenceClassification, tmp_path, attention)
    batch = batch_of([3, 9, 6], labels=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(8):
        loss = summed_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        missing = {name for name, value in model.named_parameters() if value.grad is None}
        assert not missing
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@dataclass(frozen=True)
class Exported:
    """A pruned model, and the sessions of its graphs."""

    model: Any
    names: Sequence[str]
    sessions: dict[str, Session]


def export(folder: Path, kind: Any, task: Task, *runtimes: str) -> Exported:
    model = pruned_bert(kind)
    save_model(model, folder / "model")
    export_onnx(folder / "model", task, folder / "model.onnx")
    files = {"onnxruntime": folder / "model.onnx"}
    if "openvino" in runtimes:
        files["openvino"] = folder / "openvino_model.xml"
        convert_to_openvino(files["onnxruntime"], files["openvino"])
    sessions = {name: get_runtime(name).open(file, Target(runtime="onnxruntime")) for name, file in files.items()}
    return Exported(model, task.output_names, sessions)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(tmp_path_factory.mktemp("classifier"), BertForSequenceClassification, TASK, "onnxruntime", "openvino")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(tmp_path_factory.mktemp("reader"), BertForQuestionAnswering, Spans(), "onnxruntime")


def units(indices: Sequence[int], heads: Sequence[int], widths: Sequence[int]) -> dict[int, Units]:
    """The last heads and neurons of each layer: those that a mistake in numbering would not find."""
    return {
        index: Units(tuple(range(4 - count, 4)), tuple(range(24 - width, 24)))
        for index, count, width in zip(indices, heads, widths, strict=True)
    }


def drawn(seed: int) -> dict[int, Units]:
    """Any layers, heads and neurons."""
    draw = random.Random(seed)
    indices = sorted(draw.sample(range(3), draw.randint(1, 3)))
    return {
        index: Units(
            tuple(sorted(draw.sample(range(4), draw.randint(1, 4)))), tuple(sorted(draw.sample(range(24), draw.randint(1, 24))))
        )
        for index in indices
    }


SHAPES = {
    "one head and one neuron": units([0, 1, 2], [1, 1, 1], [1, 1, 1]),
    "one layer of one head and one neuron": units([2], [1], [1]),
    "one layer whole": units([1], [4], [24]),
    "all equal": units([0, 1, 2], [2, 2, 2], [8, 8, 8]),
    "all whole": units([0, 1, 2], [4, 4, 4], [24, 24, 24]),
    "odd widths": units([0, 2], [3, 1], [23, 7]),
    **{f"drawn by {seed}": drawn(seed) for seed in range(6)},
}


@pytest.mark.slow
@pytest.mark.parametrize("kept", SHAPES.values(), ids=SHAPES)
def test_any_shape_saves_loads_and_exports(kept: dict[int, Units], tmp_path: Path) -> None:
    whole = build(BertForSequenceClassification, layers=3)
    save_model(prune(whole, kept), tmp_path)
    loaded = load_model(tmp_path, TASK)
    assert shape_of(loaded).heads == tuple(len(entry.heads) for entry in kept.values())
    assert shape_of(loaded).intermediate_sizes == tuple(len(entry.neurons) for entry in kept.values())
    wanted = outputs(silenced(whole, kept), BATCH)
    assert_same(outputs(loaded, BATCH), wanted)
    export_onnx(tmp_path, TASK, tmp_path / "model.onnx")
    session = get_runtime("onnxruntime").open(tmp_path / "model.onnx", Target(runtime="onnxruntime"))
    found = session.predict({name: value.numpy() for name, value in BATCH.items()})
    np.testing.assert_allclose(found["logits"], wanted[0].numpy(), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "runtime"), [("classifier", "onnxruntime"), ("classifier", "openvino"), ("reader", "onnxruntime")]
)
@pytest.mark.parametrize(("lengths", "padding"), [([1], 0), ([32], 0), ([4], 7), ([3, 12], 0), ([1, 2, 20, 17, 5], 4)])
def test_the_exported_graph_answers_as_torch_at_every_shape(
    made: str, runtime: str, lengths: list[int], padding: int, request: pytest.FixtureRequest
) -> None:
    exported: Exported = request.getfixturevalue(made)
    batch = batch_of(lengths, padding=padding, seed=len(lengths))
    found = exported.sessions[runtime].predict({name: value.numpy() for name, value in batch.items()})
    with torch.no_grad():
        wanted = exported.model(**batch)
    assert set(found) == set(exported.names)
    for name in exported.names:
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], wanted[name].numpy(), atol=1e-4, rtol=0)
    if len(lengths) > 1:
        assert difference([wanted[exported.names[0]][0]], [wanted[exported.names[0]][1]]) > 1e-2
