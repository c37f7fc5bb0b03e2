"""Layout: every stage gets its source, every target its FP32 baseline and its candidates, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fake_stages import Cut, Retoken

from edgebert.compress.layout import BASE, Layout, lay_out, numbered
from edgebert.compress.recipe import Recipe, normalise
from edgebert.stages.base import Stage
from edgebert.stages.export import Export
from edgebert.stages.finetune import Finetune
from edgebert.stages.quantize import Quantize


def recipe_of(stages: Sequence[Any], runtimes: Sequence[str] = ("onnxruntime",), *, gates: Any = None, **data: str) -> Recipe:
    raw = {
        "model": "./model",
        "task": "text-classification",
        "data": {"eval": "eval.csv", **(data or {"train": "train.csv"})},
        "stages": list(stages),
        "targets": [{"runtime": runtime} for runtime in runtimes],
        **({"gates": gates} if gates else {}),
    }
    return Recipe.model_validate(normalise(raw), strict=False)


def laid_out(
    stages: Sequence[Any], runtimes: Sequence[str] = ("onnxruntime",), *, has_head: bool = True, **data: str
) -> Layout:
    layout, problems = lay_out(recipe_of(stages, runtimes, **data), has_head=has_head)
    assert layout is not None, problems
    return layout


def shape(layout: Layout) -> list[tuple[str, str]]:
    """(step, its source) in order."""
    return [(step.stage.label, named(layout, step.source)) for step in layout.steps]


def named(layout: Layout, index: int) -> str:
    return "base" if index == BASE else layout.steps[index].stage.label


BOTH = ("onnxruntime", "openvino")
METHODS = {"quantize": {"method": ["dynamic", "static", "nncf"]}}


def test_lay_out_gives_each_method_the_graph_of_its_own_format() -> None:
    layout = laid_out(["export", METHODS], BOTH)
    assert shape(layout) == [
        ("export-onnx", "base"),
        ("export-openvino", "export-onnx"),
        ("int8-dynamic", "export-onnx"),
        ("int8-static", "export-onnx"),
        ("int8-nncf", "export-openvino"),
    ]
    assert {name: named(layout, index) for name, index in layout.baselines.items()} == {
        "onnxruntime": "export-onnx",
        "openvino": "export-openvino",
    }
    assert {name: [named(layout, index) for index in indices] for name, indices in layout.candidates.items()} == {
        "onnxruntime": ["int8-dynamic", "int8-static"],
        "openvino": ["int8-nncf"],
    }
    assert layout.teacher == BASE


def test_lay_out_exports_the_fine_tuned_model_and_makes_it_the_teacher() -> None:
    layout = laid_out(["finetune", "export", "quantize"], has_head=False)
    assert shape(layout) == [("finetune", "base"), ("export-onnx", "finetune"), ("int8-dynamic", "export-onnx")]
    assert named(layout, layout.teacher) == "finetune"
    assert named(layout, layout.baselines["onnxruntime"]) == "export-onnx"


def test_lay_out_takes_the_last_teacher_when_a_model_is_trained_twice() -> None:
    layout = laid_out([{"finetune": {"epochs": 1.0}}, {"finetune": {"epochs": 2.0}}, "export", "quantize"])
    assert [step.source for step in layout.steps] == [BASE, 0, 1, 2]
    assert layout.teacher == 1


def test_lay_out_compares_the_export_with_itself_when_nothing_compresses() -> None:
    layout = laid_out(["export"])
    assert layout.baselines == {"onnxruntime": 0}
    assert layout.candidates == {"onnxruntime": (0,)}


def test_lay_out_refuses_a_speedup_of_fp32_over_itself() -> None:
    for least, refused in ((1.0, False), (1.2, True)):
        for stages in (["export"], ["finetune", "export"], ["finetune"]):
            gates = [{"metric": "accuracy", "min_ratio": 0.99}, {"metric": "speedup", "min": least}]
            _, problems = lay_out(recipe_of(stages, gates=gates), has_head=True)
            assert [problem.path for problem in problems] == (["gates.1.metric"] if refused else [])
    recipe = recipe_of(["export", "quantize"], gates=[{"metric": "speedup", "min": 1.2}])
    assert not lay_out(recipe, has_head=True)[1]
    assert [gate.metric for gate in recipe_of(["export"]).gates] == ["accuracy"]


def test_lay_out_runs_an_equal_step_once_when_the_recipe_names_it_twice() -> None:
    layout = laid_out(["export", {"quantize": {"method": "dynamic"}}, METHODS], BOTH)
    labels = [label for label, _ in shape(layout)]
    assert len(labels) == len(set(labels)) == 5


@pytest.mark.parametrize(
    ("stages", "runtimes"),
    [
        (["quantize"], ("onnxruntime",)),
        (["finetune", "quantize"], ("onnxruntime",)),
        (["finetune", METHODS], BOTH),
        (["finetune"], BOTH),
        (["distill", "quantize"], ("onnxruntime",)),
        (["export", "finetune", "quantize"], ("onnxruntime",)),
    ],
)
def test_lay_out_exports_what_the_recipe_forgot_to_export(stages: list[Any], runtimes: tuple[str, ...]) -> None:
    written = [stage for stage in stages if stage != "export"]
    quantize = next((index for index, stage in enumerate(written) if stage in ("quantize", METHODS)), len(written))
    written.insert(quantize, "export")
    wanted, found = laid_out(written, runtimes), laid_out(stages, runtimes)
    assert {index for indices in found.candidates.values() for index in indices}
    for side in ("baselines", "candidates"):
        assert getattr(found, side).keys() == getattr(wanted, side).keys()
    assert _lineages(found) == _lineages(wanted)


def _lineages(layout: Layout) -> list[list[list[str]]]:
    """For every target the steps that led to each candidate."""
    return [[_lineage(layout, index) for index in indices] for indices in layout.candidates.values()]


def _lineage(layout: Layout, index: int) -> list[str]:
    return [] if index == BASE else [*_lineage(layout, layout.steps[index].source), layout.steps[index].stage.label]


def test_lay_out_leaves_a_target_out_when_no_stage_makes_a_candidate_for_it() -> None:
    layout = laid_out(["export", "quantize"], BOTH)
    assert [target.name for target in layout.idle_targets] == ["openvino"]
    assert set(layout.baselines) == set(layout.candidates) == {"onnxruntime"}


def test_lay_out_never_builds_on_a_candidate() -> None:
    layout = laid_out(["export", METHODS, "export"], BOTH)
    final = {index for index, step in enumerate(layout.steps) if step.stage.final}
    assert final
    assert not final & {step.source for step in layout.steps}


def test_lay_out_needs_no_training_data_when_no_stage_trains_or_calibrates() -> None:
    assert laid_out(["export", "quantize"], eval="eval.csv").steps


CUT, CUT_MORE = Cut(kept=((0, (0, 1), 16),)), Cut(kept=((0, (0,), 8),))


def laid_out_with(*stages: Stage, runtimes: Sequence[str] = ("onnxruntime",), has_head: bool = True) -> Layout:
    """A layout of stages that no recipe can name."""
    recipe = recipe_of(["export"], runtimes).model_copy(update={"stages": stages})
    layout, problems = lay_out(recipe, has_head=has_head)
    assert layout is not None, problems
    return layout


def exported_from(layout: Layout, graph: int) -> int:
    """Index of the Transformers model that a graph comes from."""
    while graph != BASE and layout.steps[graph].stage.output_format() != "transformers":
        graph = layout.steps[graph].source
    return graph


def test_lay_out_exports_the_result_of_each_step_that_changed_the_weights() -> None:
    layout = laid_out_with(CUT, Retoken(), CUT_MORE, Export(), Quantize(), runtimes=BOTH)
    assert [(point.name, point.step) for point in layout.intermediates] == [("cut", 0), ("retoken", 1), ("cut-2", 2)]
    assert [exported_from(layout, point.graph) for point in layout.intermediates] == [0, 1, 2]
    assert {named(layout, point.graph) for point in layout.intermediates} == {"export-onnx"}
    assert exported_from(layout, layout.baselines["onnxruntime"]) == BASE


def test_lay_out_runs_one_export_for_a_step_that_the_recipe_exports_anyway() -> None:
    layout = laid_out_with(CUT, Export(), Quantize())
    (point,) = layout.intermediates
    (candidate,) = layout.candidates["onnxruntime"]
    assert point.graph == layout.steps[candidate].source
    assert [label for label, _ in shape(layout)].count("export-onnx") == 2  # the cut model's and FP32's
    assert all(step.source < index for index, step in enumerate(layout.steps))


@pytest.mark.parametrize(("runtimes", "wanted"), [(BOTH, "export-onnx"), (BOTH[::-1], "export-openvino")])
def test_lay_out_exports_an_intermediate_for_the_first_target(runtimes: Sequence[str], wanted: str) -> None:
    method = {"onnxruntime": "dynamic", "openvino": "nncf"}[runtimes[0]]
    layout = laid_out_with(CUT, CUT_MORE, Export(), Quantize(method=(method,)), runtimes=runtimes)
    assert [named(layout, point.graph) for point in layout.intermediates] == [wanted, wanted]


def test_lay_out_exports_an_intermediate_for_the_next_target_when_the_first_one_is_left_out() -> None:
    layout = laid_out_with(CUT, Export(formats=("onnx",)), Quantize(), runtimes=BOTH[::-1])
    assert [target.name for target in layout.idle_targets] == ["openvino"]
    assert [named(layout, point.graph) for point in layout.intermediates] == ["export-onnx"]


def test_lay_out_lists_no_intermediate_when_its_export_is_a_candidate() -> None:
    layout = laid_out_with(CUT, CUT_MORE, Export())
    assert [(point.name, point.step) for point in layout.intermediates] == [("cut", 0)]
    assert exported_from(layout, layout.candidates["onnxruntime"][0]) == 1
    assert laid_out_with(CUT, Export()).intermediates == ()


def test_lay_out_makes_no_intermediate_of_the_teacher_or_of_a_step_before_it() -> None:
    layout = laid_out_with(Finetune(), Finetune(epochs=1.0), CUT, Export(), Quantize(), has_head=False)
    assert layout.teacher == 1
    assert [(point.name, point.step) for point in layout.intermediates] == [("cut", 2)]
    assert laid_out(["finetune", "export", "quantize"]).intermediates == ()


def test_numbered_tells_equal_names_apart() -> None:
    assert numbered(["prune", "distill", "prune", "prune"]) == ["prune", "distill", "prune-2", "prune-3"]
