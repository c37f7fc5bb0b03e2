"""Quantisation-aware distillation: FP32 weights that tolerate INT8 better, and the keys of before."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import RECIPE, review_rows
from fake_stages import Cut
from stage_runs import make_bench, run, tensors
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from edgebert.compress.recipe_file import load_recipe
from edgebert.compress.resolve import resolve_recipe
from edgebert.errors import RecipeError
from edgebert.models.fake_quant import fake_quantized
from edgebert.models.load import load_model
from edgebert.stages.distill import Distill, learn
from edgebert.stages.distill.settings import EarlyStop
from edgebert.tasks import get_task

CUT = Cut(kept=((0, (0, 1), 24), (1, (1, 3), 24)))
AWARE: dict[str, Any] = {"quantization_aware": "dynamic", "epochs": 4, "batch_size": 16, "learning_rate": 1e-4}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    """The tiny model and its data; do not write into it."""
    return make_bench(tmp_path_factory.mktemp("aware"), model_template)


def answers(folder: Path, *, rounded: bool) -> torch.Tensor:
    """Logits of the texts of data.train, each alone."""
    model, tokenizer = load_model(folder, get_task("text-classification")), AutoTokenizer.from_pretrained(folder)
    texts = [tokenizer(row["text"], truncation=True, max_length=32, return_tensors="pt") for row in review_rows(48)]
    with torch.no_grad(), fake_quantized(model) if rounded else nullcontext():
        return torch.cat([model(**text).logits for text in texts])


def rounding_error(folder: Path, teacher: Path) -> float:
    """Mean squared difference of the logits in INT8 from the teacher's in FP32."""
    return float(((answers(folder, rounded=True) - answers(teacher, rounded=False)) ** 2).mean())


def test_a_model_that_learns_from_itself_through_the_rounding_errs_less_in_int8(bench: Path, tmp_path: Path) -> None:
    """No prune stage: the teacher is the same FP32 model, and without the rounding there is nothing to learn."""
    aware, plain = (
        run(bench, tmp_path / "store", Distill(**{**AWARE, **change}))[0].path for change in ({}, {"quantization_aware": None})
    )
    before = rounding_error(bench / "model", bench / "model")
    assert rounding_error(aware, bench / "model") < 0.6 * min(before, rounding_error(plain, bench / "model"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_result_is_an_ordinary_folder_of_fp32_weights(precision: str, bench: Path, tmp_path: Path) -> None:
    cut, found = run(bench, tmp_path / "store", CUT, Distill(**{**AWARE, "epochs": 1, "precision": precision}))
    ours, before = tensors(found), tensors(cut)
    assert {name: (value.shape, value.dtype) for name, value in ours.items()} == {
        name: (value.shape, torch.float32) for name, value in before.items()
    }
    assert (found.path / "config.json").read_text() == (cut.path / "config.json").read_text()
    loaded = AutoModelForSequenceClassification.from_pretrained(found.path)
    assert not any("forward" in vars(module) for module in loaded.modules())
    changed = [name for name in ours if not torch.equal(ours[name], before[name])]
    assert len(changed) > len(ours) / 2
    weight = ours["bert.encoder.layer.0.output.dense.weight"][0]
    assert weight.unique().numel() == weight.numel()  # not rounded


def test_early_stopping_looks_at_the_rounded_student(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []
    train = learn.train

    def noting(model: Any, *, early_stopping: Any, **options: Any) -> Any:
        def loss_of(module: Any) -> float:
            linears = [part for part in module.student.modules() if isinstance(part, torch.nn.Linear)]
            seen.append((module.training, all("forward" in vars(part) for part in linears)))
            return float(early_stopping.loss_of(module))

        return train(model, early_stopping=type(early_stopping)(loss_of, early_stopping.every, 9), **options)

    monkeypatch.setattr(learn, "train", noting)
    run(bench, tmp_path / "store", Distill(**AWARE, early_stopping=EarlyStop(share=0.2, every=1)))
    assert seen and set(seen) == {(False, True)}


def test_the_key_is_the_old_one_unless_it_is_asked_for() -> None:
    assert "quantization_aware" not in Distill().parameters()
    parameters = Distill(quantization_aware="dynamic").parameters()
    assert parameters == {**Distill().parameters(), "quantization_aware": "dynamic"}
    assert Distill.version == 2


def with_recipe(bench: Path, tmp_path: Path, aware: str) -> Any:
    path = tmp_path / "recipe.yaml"
    stages = f"stages:\n  - distill: {{quantization_aware: {aware}, epochs: 1, learning_rate: 1.0e-5}}\n"
    text = RECIPE.replace("stages:\n  - export\n", stages).replace("./model", f"{bench}/model")
    path.write_text(text.replace("data/", f"{bench}/data/"))
    return load_recipe(str(path))


def test_a_recipe_distils_and_quantises_without_a_prune_stage(bench: Path, tmp_path: Path) -> None:
    layout = resolve_recipe(with_recipe(bench, tmp_path, "dynamic")).layout
    (candidates,) = layout.candidates.values()
    quantize = layout.steps[candidates[0]]
    export = layout.steps[quantize.source]
    distill = layout.steps[export.source]
    assert [step.stage.stage_name() for step in (distill, export, quantize)] == ["distill", "export", "quantize"]
    assert isinstance(distill.stage, Distill) and distill.stage.quantization_aware == "dynamic"
    assert distill.source == layout.teacher == -1
    (baseline,) = layout.baselines.values()
    assert layout.steps[baseline].source == layout.teacher  # judged against the model as it was


def test_a_recipe_that_asks_for_an_unknown_quantisation_lists_those_there_are(bench: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"quantization_aware.*dynamic"):
        resolve_recipe(with_recipe(bench, tmp_path, "statick"))
