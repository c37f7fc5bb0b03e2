"""Short position tables and keys of config.json that say how a call behaves do not decide whether a model exports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_families import family_named, tiny_batch, tiny_model

from edgebert.core.packages import quiet_libraries
from edgebert.models.load import load_model, run_model
from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target
from edgebert.stages.export import TOLERANCE, export_model, export_onnx
from edgebert.tasks import get_task

TASK = get_task("text-classification")
CALLS = {
    "return_dict": False,
    "output_attentions": True,
    "output_hidden_states": True,
    "torchscript": True,
    "chunk_size_feed_forward": 2,
    "use_cache": True,
    "dtype": "float16",
}


@pytest.mark.slow
@pytest.mark.parametrize(("family", "longest", "rewritten"), [("bert", 3, False), ("bert", 5, True), ("distilbert", 7, False)])
def test_a_model_of_a_few_positions_answers_alike_as_a_graph(
    family: str, longest: int, rewritten: bool, tmp_path: Path
) -> None:
    model = tiny_model(family_named(family), longest=longest)
    with quiet_libraries():
        model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**json.loads((tmp_path / "config.json").read_text()), **CALLS}))
    graph = tmp_path / "model.onnx"
    if rewritten:
        export_model(load_model(tmp_path, TASK), TASK, graph, name="small", rewrites=("mask", "scale", "qkv", "first_token"))
    else:
        export_onnx(tmp_path, TASK, graph)
    batch = tiny_batch(model, (longest, 2), padding=0)
    with torch.no_grad():
        right = run_model(model, batch).logits.numpy()
    feeds = {name: value.numpy() for name, value in batch.items()}
    for runtime, path in (("onnxruntime", graph), ("torch", tmp_path)):
        found = get_runtime(runtime).open(path, Target.model_validate({"runtime": runtime})).predict(feeds)
        np.testing.assert_allclose(found["logits"], right, atol=TOLERANCE * np.abs(right).max(), rtol=0)
