"""Goldens: rounding by another version of a runtime passes, a kernel whose sums overflow does not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgebert.bundle.golden_answers import compare_goldens
from edgebert.bundle.manifest import BundleManifest
from edgebert.bundle.read import open_bundle_folder, read_bundle
from edgebert.bundle.self_test import SelfTest, golden_inputs, other_versions, replay
from edgebert.tasks import get_task
from edgebert.tasks.base import Output, Task
from edgebert.tasks.text_classification import TextClassification

INT8, FP32 = 0.1, 1e-3


class Vectors(TextClassification):
    """A task whose output has no axis of labels."""

    outputs = (Output("logits", ("width",)),)  # type: ignore[arg-type]


def judged(wanted: Any, found: Any, tolerance: float, task: Task | None = None) -> bool:
    """Whether outputs for some windows pass beside their goldens."""
    task = task or get_task("text-classification")
    answers = [{"logits": np.array(row, dtype=np.float32)} for row in found]
    return compare_goldens(answers, {"logits": wanted}, task, tolerance).within(tolerance)


@pytest.mark.parametrize(
    ("wanted", "found", "tolerance", "passes"),
    [
        ([[-2.2, 2.1]], [[-2.2, 2.1]], FP32, True),
        ([[-2.2, 2.1]], [[-2.072, 2.1]], INT8, True),  # 0.128: what onnxruntime 1.27 makes of goldens of 1.32
        ([[-6.0, 6.0]], [[-5.2, 5.2]], INT8, True),  # a confident model's logits are larger, and so is their rounding
        ([[0.05, 0.0]], [[0.0, 0.08]], INT8, True),  # a near tie may turn
        ([[0.3, 0.0]], [[0.0, 0.11]], INT8, False),  # a label that was decided may not
        ([[-0.4, 0.4]], [[-0.1, 0.1]], INT8, False),  # 0.69 became 0.55
        ([[-6.0, 6.0]], [[-2.0, 2.0]], INT8, False),  # 0.999994 became 0.98, but two thirds of the logits are lost
        ([[-0.3, 0.3], [-2.0, 2.0]], [[-0.3, 0.3], [2.0, -2.0]], INT8, False),
        ([[-2.2, 2.1]], [[-2.2, 2.1005]], FP32, True),
        ([[-2.2, 2.1]], [[-2.2, 2.128]], FP32, False),
        ([[1.0, 2.0, 0.5]], [[1.0, 2.0]], INT8, False),
        ([[1.0, 2.0]], [[1.0, math.nan]], INT8, False),
        ([[3.0]], [[3.05]], INT8, True),
        ([[3.0]], [[9.0]], INT8, False),  # the probability of a single label is 1 whatever its logit
    ],
)
def test_labels_and_probabilities_are_judged(wanted: Any, found: Any, tolerance: float, passes: bool) -> None:
    assert judged(wanted, found, tolerance) is passes


@pytest.mark.parametrize(("change", "passes"), [(0.0, True), (0.19, True), (1.5, False)])
def test_every_token_is_judged_where_labels_are_of_tokens(change: float, passes: bool) -> None:
    wanted = [[[4.0, -1.0, 0.0], [0.0, 3.0, -2.0]], [[5.0, 0.0, 0.0]]]
    found = [[[4.0, -1.0, 0.0], [change, 3.0 - change, -2.0]], [[5.0, 0.0, 0.0]]]
    assert judged(wanted, found, INT8, get_task("token-classification")) is passes


@pytest.mark.parametrize(("off", "passes"), [(0.29, True), (0.4, False)])
def test_vectors_are_judged_by_their_distance_as_a_share_of_their_length(off: float, passes: bool) -> None:
    assert judged([[-2.2, 2.1]], [[-2.2 + off, 2.1]], INT8, Vectors()) is passes
    small = [0.02] * 384
    assert judged([small], [[(1 + off / 3) * value for value in small]], INT8, Vectors()) is passes
    assert not judged([small], [[0.0] * 384], INT8, Vectors())


@pytest.mark.parametrize(
    ("wanted", "found", "tolerance", "passes"),
    [
        ([[2004.1], [2011.7], [1998.2]], [[2000.0]] * 3, INT8, False),
        ([[2004.1], [2011.7], [1998.2]], [[2005.0], [2010.5], [1998.0]], INT8, True),
        ([[0.01], [0.03], [0.002]], [[0.0]] * 3, INT8, False),
        ([[0.01], [0.03], [0.002]], [[0.012], [0.0275], [0.002]], INT8, True),
        ([[1e5, 4.0], [2e5, 1.0]], [[1e5, -4000.0], [2e5, 9.0]], INT8, False),  # each column by its own spread
        ([[1e5, 4.0], [2e5, 1.0]], [[1.09e5, 4.2], [2e5, 1.0]], INT8, True),
        ([[2000.0], [2000.0001]], [[2000.01], [2000.0]], FP32, True),  # rounding of float32
        ([[5.0]], [[5.4]], INT8, True),
        ([[5.0]], [[5.6]], INT8, False),
    ],
)
def test_numbers_are_judged_by_the_spread_of_their_goldens(wanted: Any, found: Any, tolerance: float, passes: bool) -> None:
    assert judged(wanted, found, tolerance, get_task("regression")) is passes


@pytest.mark.parametrize(("found", "passes"), [([-11.15, -11.05], True), ([-11.5, -11.0], False), ([3.0, 3.0], False)])
def test_scores_of_passages_that_are_alike_may_be_off_by_what_nobody_feels(found: list[float], passes: bool) -> None:
    assert judged([[-11.0], [-11.2]], [[value] for value in found], INT8, get_task("reranking")) is passes


@pytest.mark.parametrize(
    ("thresholds", "found", "passes"),
    [
        ((0.05, 0.05), [[-2.98, -7.0], [-7.0, -2.98]], False),  # [x], [y] became [], []
        ((0.05, 0.05), [[-2.8, -7.0], [-7.0, -2.4]], True),
        ((0.06, 0.05), [[-2.8, -7.0], [-7.0, -2.6]], True),  # x was a near tie
        (0.5, [[-2.98, -7.0], [-7.0, -2.98]], True),  # no label either way
        (0.5, [[-3.1, -7.0], [-7.0, -3.1]], False),  # logits, by their spread of 4.4
    ],
)
def test_label_sets_are_judged_by_their_thresholds(thresholds: Any, found: Any, passes: bool) -> None:
    task = get_task("multi-label-classification").configured({"thresholds": thresholds})
    assert judged([[-2.6, -7.0], [-7.0, -2.6]], found, INT8, task) is passes


def test_an_offset_of_all_logits_widens_no_bound() -> None:
    task = get_task("multi-label-classification")
    assert not judged([[20.0, 19.0]], [[18.5, 19.5]], INT8, task) and judged([[20.0, 19.0]], [[19.9, 19.1]], INT8, task)


@pytest.fixture(scope="module")
def shared(finished: Path) -> Path:
    """The finished bundle itself; do not write into it."""
    return finished / "runs" / "recipe" / "bundle"


def with_versions(manifest: BundleManifest, **versions: str) -> BundleManifest:
    """The manifest as if its variants had been made with other versions."""
    variants = tuple(
        one.model_copy(update={"requires": {name: versions.get(name, made) for name, made in one.requires.items()}})
        for one in manifest.variants
    )
    return manifest.model_copy(update={"variants": variants})


def test_versions_are_said_where_they_are_others_and_decide_nothing(shared: Path) -> None:
    import onnxruntime

    with open_bundle_folder(shared) as bundle:
        assert [other_versions(variant) for variant in bundle.manifest.variants] == [""] * 5
        encoded = golden_inputs(bundle.serving, bundle.open_tokenizer(), bundle.manifest)
        variants = with_versions(bundle.manifest, onnxruntime="1.99.0").variants
        tests = [replay(bundle, variant, encoded) for variant in variants]
    said = [test.result.partition("(")[2] for test in tests]
    made = f"made with onnxruntime 1.99.0, here {onnxruntime.__version__})"
    assert said == [made, made, made, "", ""]
    assert {test.state for test in tests} == {"ok"}


def test_an_untested_variant_says_why(shared: Path) -> None:
    variant = read_bundle(shared).variants[0]
    test = SelfTest(variant, None, "onnxruntime is not installed")
    assert (test.state, test.result, test.difference) == ("untested", "onnxruntime is not installed", None)
