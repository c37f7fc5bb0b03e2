"""Tests share exports of equal models; a model that differs in anything has another one."""

from __future__ import annotations

import os
from pathlib import Path

import exports_once
import torch
from tiny_bert import build

from edgebert.stages.export import REWRITES, outputs_only
from edgebert.stages.export.serving_form import serving_form
from edgebert.tasks import get_task

TASK = get_task("text-classification")


def content(model: object) -> str:
    return exports_once.content(outputs_only(model, TASK.output_names), TASK)


def test_equal_models_have_one_export_and_others_their_own() -> None:
    model, changed, scaled = build(), build(), build()
    with torch.no_grad():
        changed.classifier.bias[0] += 1e-6
    scaled.config.layer_norm_eps *= 2
    models = [model, changed, scaled, build(layers=1), serving_form(model, REWRITES), serving_form(model, REWRITES[:2])]
    assert content(build()) == content(model)
    assert len({content(item) for item in models}) == len(models)


def test_the_exports_of_a_run_of_tests_are_in_a_folder_of_its_own() -> None:
    assert Path(os.environ[exports_once.FOLDER]).name.startswith("edgebert-tests-exports-")
