"""The parts of keys that recipes decide stay as they are, so that stores made before are hit: pinned_keys.json has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgebert.core.store import hash_json
from edgebert.runtimes import isa
from edgebert.runtimes.target import Target
from edgebert.stages.export import Export
from edgebert.stages.quantize import Quantize

PINNED = json.loads((Path(__file__).parent / "pinned_keys.json").read_text())
"""`targets`: [fields, name, hash of its identity, hash of its JSON]; `exports`: [formats, steps]; `stages`: [fields, label,
steps], a step as `described` has it."""
DEVICES = [
    Target(runtime="onnxruntime", isa="avx512_vnni"),
    Target(runtime="openvino", isa="avx512_vnni"),
    Target(runtime="onnxruntime", isa="avx2"),
]


@pytest.fixture(autouse=True)
def _a_cpu_with_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isa, "host_cpu", lambda: isa.Cpu("made up", ("avx512_vnni",)))


def short(value: object) -> str:
    """The start of a value's hash."""
    return hash_json(value)[:16]


def described(step: Any, steps: Any) -> list[Any]:
    """Label, hash of the parameters, formats, needs, packages, and which of DEVICES take an expanded step."""
    parameters = {name: value for name, value in step.parameters().items() if name != "methods"}  # what is installed here
    formats = [step.input_format(), step.output_format()]
    packages = sorted(set(step.required_packages()))
    return [
        step.label,
        short(parameters),
        *formats,
        sorted(step.needed()),
        packages,
        [step.fits(target, steps) for target in DEVICES],
    ]


def now(model: Any, fields: dict[str, Any]) -> Any:
    """The model of fields as a recipe has them."""
    return model.model_validate_json(json.dumps(fields))


@pytest.mark.parametrize("pinned", PINNED["targets"], ids=lambda pinned: pinned[1])
def test_a_target_has_the_name_and_the_identity_that_it_had(pinned: list[Any]) -> None:
    target = now(Target, pinned[0])
    assert [target.name, short(target.identity()), short(target.model_dump(mode="json"))] == pinned[1:]
    assert now(Target, target.model_dump(mode="json")) == target


@pytest.mark.parametrize("pinned", PINNED["stages"], ids=lambda pinned: pinned[1])
def test_a_quantize_stage_has_the_steps_and_parameters_that_it_had(pinned: list[Any]) -> None:
    stage = now(Quantize, {"stage": "quantize", **pinned[0]})
    steps = stage.expand(DEVICES)
    assert stage.label == pinned[1]
    assert [described(step, steps) for step in steps] == pinned[2]


@pytest.mark.parametrize("pinned", PINNED["exports"], ids=str)
def test_an_export_has_the_steps_and_parameters_that_it_had(pinned: list[Any]) -> None:
    steps = now(Export, {"stage": "export", "formats": pinned[0]}).expand(DEVICES)
    assert [described(step, steps) for step in steps] == pinned[1]
