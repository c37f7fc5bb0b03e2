"""A model beside a bundle is asked as the bundle is, or refused before anything is measured."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from notes import Notes

from edgebert.core.progress import Silent
from edgebert.errors import InputError
from edgebert.measure.bench.alike import asked_like_the_bundle
from edgebert.measure.bench.models import POSITIONS, BenchModel, ModelRequest, find_models
from edgebert.measure.bench.queries import QuerySource
from edgebert.measure.bench.sweep import BenchOptions, make_plan


def find(path: Path) -> BenchModel:
    (model,) = find_models(str(path), ModelRequest(), Silent())
    return model


def with_target(model: BenchModel, **changes: Any) -> BenchModel:
    return replace(model, target=model.target.model_copy(update=changes))


@pytest.fixture
def alone(bundle: Path, tmp_path: Path) -> BenchModel:
    """The bundle's FP32 graph in a folder of its own: nothing says how it is asked."""
    (tmp_path / "alone").mkdir()
    return find(Path(shutil.copyfile(bundle / "onnx" / "model.onnx", tmp_path / "alone" / "model.onnx")))


@pytest.mark.parametrize(
    ("theirs", "target"),
    [
        ({}, {}),
        ({"columns": ("text", "text_pair")}, {}),
        ({"max_length": 24, "pad_id": 3}, {"padding": "max_length"}),
        ({"task": "token-classification", "labels": ("O", "B-X", "I-X")}, {"length_bucket": 4}),
    ],
)
def test_a_bare_graph_takes_all_that_the_bundle_says(
    theirs: dict[str, Any], target: dict[str, Any], alone: BenchModel, bundle: Path
) -> None:
    assert (alone.max_length, alone.task, alone.tokenizer) == (POSITIONS, None, None)
    served = with_target(replace(find(bundle), **theirs), **target)
    notes = Notes()
    asked, same = asked_like_the_bundle([alone, served], notes)
    assert same == served
    for name in ("task", "labels", "columns", "max_length", "pad_id", "vocabulary", "tokenizer"):
        assert getattr(asked, name) == getattr(served, name)
    assert asked.target == alone.target.model_copy(update={"padding": served.target.padding, **target})
    assert f"at most {served.max_length} tokens" in notes.lines[0] and "with the tokenizer of" in notes.lines[0]


def test_what_a_model_says_itself_stays(alone: BenchModel, bundle: Path) -> None:
    served = find(bundle)
    described = replace(alone, is_described=True, max_length=128, pad_id=7, vocabulary=9, labels=("a", "b"), tokenizer=bundle)
    asked, _ = asked_like_the_bundle([described, served], Notes())
    assert (asked.max_length, asked.pad_id, asked.vocabulary) == (served.max_length, 7, 9)
    assert (asked.labels, asked.tokenizer) == (("a", "b"), bundle)


def test_another_runtime_keeps_its_own_buckets(alone: BenchModel, bundle: Path) -> None:
    served = with_target(find(bundle), runtime="openvino", length_bucket=16)
    asked, _ = asked_like_the_bundle([alone, served], Notes())
    assert asked.target.length_bucket is None


@pytest.mark.parametrize(
    ("ours", "fault"),
    [
        ({"is_described": True, "max_length": 16}, "takes 16 tokens, .* 32: longer texts would differ"),
        ({"task": "token-classification"}, "a model for token-classification, .* one for text-classification"),
    ],
)
def test_a_model_that_cannot_be_asked_so_is_refused(ours: dict[str, Any], fault: str, alone: BenchModel, bundle: Path) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        asked_like_the_bundle([replace(alone, **ours), find(bundle)], Silent())
    assert caught.value.hint


def test_numbers_of_tokens_can_be_asked_of_a_shorter_model(alone: BenchModel, bundle: Path) -> None:
    shorter = replace(alone, is_described=True, max_length=16)
    asked, _ = asked_like_the_bundle([shorter, find(bundle)], Silent(), of_data=False)
    assert asked.max_length == 16


@pytest.mark.parametrize("changes", [{"max_length": 16}, {"columns": ("text", "text_pair")}])
def test_bundles_that_are_asked_in_two_ways_leave_none_to_follow(
    changes: dict[str, Any], alone: BenchModel, bundle: Path
) -> None:
    served = find(bundle)
    other = replace(served, name="other", **changes)
    with pytest.raises(InputError, match="nothing can be compared with both"):
        asked_like_the_bundle([alone, served, other], Silent())
    assert asked_like_the_bundle([served, other], Silent()) == [served, other]  # each says itself how it is asked


def test_both_are_asked_the_same_tokens(alone: BenchModel, bundle: Path) -> None:
    served = find(bundle)
    options = BenchOptions(queries=30, warmup=0)
    plan = make_plan([(alone, "baseline"), (served, "candidate")], options, QuerySource(None, 0), Silent())
    assert plan[0].asked == plan[1].asked and plan[0].asked.is_text
    assert max(plan[0].asked.lengths) <= served.max_length
