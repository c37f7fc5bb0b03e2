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
