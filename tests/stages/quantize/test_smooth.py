"""Smoothing LayerNorms changes no output, evens out what INT8 has to hold, and goes into copies, rewrites and exports."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import BATCHES, BERTS, KINDS, Batch, assert_same, batch_of, build, kept_of, outputs

from edgebert.models.surgery import prune, shape_of
from edgebert.stages.export import REWRITES, export_model
from edgebert.stages.export.serving_form import serving_form
from edgebert.stages.quantize.equalize import readings, smooth_norms
from edgebert.tasks import get_task

BATCH = batch_of([3, 9, 6], padding=2)
CHANNELS = [1, 10, 31]


def with_large_gammas(model: Any) -> Any:
    with torch.no_grad():
        for reading in readings(model):
            reading.norm.weight[CHANNELS] *= 50
    return model


@settings(max_examples=25)
@given(kind=st.sampled_from(list(KINDS)), options=BERTS, batch=BATCHES, alpha=st.sampled_from([0.0, 0.5, 1.0]), draw=st.data())
def test_smoothing_changes_no_output(
    kind: Any, options: dict[str, Any], batch: Batch, alpha: float, draw: st.DataObject
) -> None:
    model = build(kind, **options)
    if draw.draw(st.booleans()):
        model = prune(model, draw.draw(kept_of(shape_of(model))))
    wanted = outputs(model, batch)
    smooth_norms(model, [batch], alpha=alpha)
    assert_same(outputs(model, batch), wanted, 5e-5)


def test_large_channels_become_like_the_others() -> None:
    model = with_large_gammas(build(seed=1))
    found = smooth_norms(model, [BATCH])
    assert len(found) == 4  # two layers
    assert all(balance.before > 15 and balance.after < balance.before / 3 for balance in found)


def test_a_copy_a_rewritten_model_and_a_graph_answer_alike(tmp_path: Path) -> None:
    model = with_large_gammas(build(seed=1))
    wanted = model(**BATCH).logits
    smooth_norms(model, [BATCH])
    assert torch.allclose(copy.deepcopy(model)(**BATCH).logits, wanted, atol=1e-4)
    assert torch.allclose(serving_form(model, REWRITES)(**BATCH)["logits"], wanted, atol=1e-4)
    facts = export_model(model, get_task("text-classification"), tmp_path / "model.onnx", name="it", rewrites=REWRITES)
    assert facts["export_difference"] <= 1e-5


def test_an_alpha_that_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha is 1"):
        smooth_norms(build(), [BATCH], alpha=1.5)
