"""Parts of a flat model report their faults together, at the paths that users know."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from edgebert.core.flat import any_of, merged_errors, part_of
from edgebert.core.strict import Strict
from edgebert.runtimes.target import Target
from edgebert.stages.quantize import Quantize


class Part(Strict):
    names: tuple[str, ...] = ()
    size: int = 1


def errors_of(model: Any, fields: dict[str, Any]) -> dict[tuple[Any, ...], str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(json.dumps(fields))
    return {error["loc"]: error["msg"] for error in caught.value.errors()}


def test_a_part_takes_lists_for_tuples_and_converts_nothing_else() -> None:
    assert part_of(Part, {"names": ["a"]}) == part_of(Part, {"names": ("a",)}) == Part(names=("a",))
    with pytest.raises(ValidationError, match="valid integer"):
        part_of(Part, {"size": "1"})
    with pytest.raises(ValidationError, match="valid integer"):
        part_of(Part, {"size": object()})


def test_errors_of_all_makers_are_raised_each_once() -> None:
    makers = [lambda fields=fields: part_of(Part, fields) for fields in ({"size": "1"}, {}, {"size": "1", "names": 2})]
    with pytest.raises(ValidationError) as caught:
        merged_errors("Whole", *makers)
    assert [error["loc"] for error in caught.value.errors()] == [("size",), ("names",)]
    assert merged_errors("Whole", *makers[1:2]) == [Part()]


def test_a_target_reports_its_own_faults_with_those_of_its_options() -> None:
    fields = {"runtime": "openvino", "threads": 0, "precision": "f16", "unheard_of": 1, "options": {"precision": "bf16"}}
    assert set(errors_of(Target, fields)) == {("threads",), ("precision",), ("unheard_of",), ("options",)}


def test_a_list_of_methods_reports_the_faults_of_each() -> None:
    fields = {
        "stage": "quantize",
        "method": ["static", "weight-only"],
        "ranges": "all",
        "bits": 3,
        "unheard_of": 1,
        "chosen": [],
    }
    assert set(errors_of(Quantize, fields)) == {("ranges",), ("bits",), ("unheard_of",), ("chosen",)}
    assert any(path[0] == "method" for path in errors_of(Quantize, {"stage": "quantize", "method": ["static", "magic"]}))


def test_a_field_of_several_parts_takes_what_any_of_them_takes() -> None:
    whole, text = {"type": "integer", "description": "a"}, {"type": "string", "description": "b"}
    assert any_of([whole, {**whole, "description": "c"}], "both") == {"type": "integer", "description": "both"}
    assert any_of([whole, text], "both") == {"anyOf": [{"type": "integer"}, {"type": "string"}], "description": "both"}
