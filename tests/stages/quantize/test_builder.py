"""The folder of a search: what was made or measured is found again, also after a kill or a power cut in its midst."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import pytest

from edgebert.errors import StageError
from edgebert.runtimes.target import Target
from edgebert.stages.quantize import builder as builder_module
from edgebert.stages.quantize.builder import Builder, Form, Plan
from edgebert.stages.quantize.method import Method

COMMON = {"per_channel": True, "embeddings": True, "reduce_range": False}


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    """One whose methods read nothing of the model."""
    context: Any = SimpleNamespace(work=tmp_path, calibration=(), task=None, labels=())
    return Builder(SimpleNamespace(path=tmp_path), context, Target(runtime="onnxruntime"), COMMON, 0.01)  # type: ignore[arg-type]


def method(run: Any) -> type[Method]:
    class MadeUp(Method):
        method: Literal["made-up"] = "made-up"
        format: ClassVar[str] = "onnx"
        from_graph: ClassVar[bool] = False

        def quantize(self, source: Path, target: Path, settings: Any) -> Any:
            return run(source, target, settings)

    return MadeUp


def writes(source: Path, folder: Path, settings: Any) -> dict[str, Any]:
    (folder / "model.onnx").write_text("graph")
    return {}


def test_a_file_is_made_once(builder: Builder) -> None:
    calls: list[int] = []
    plan = Plan(Form(), method(lambda *arguments: calls.append(1) or writes(*arguments)))
    assert builder.quantized(plan).read_text() == builder.quantized(plan).read_text() == "graph"
    assert len(calls) == 1


@pytest.mark.parametrize("altered", ["model.onnx", "seal"])
def test_a_file_that_was_altered_after_a_kill_is_made_again(builder: Builder, altered: str) -> None:
    plan = Plan(Form(), method(writes))
    file = builder.quantized(plan)
    (file if altered == "model.onnx" else file.parent.with_name(f"{file.parent.name}.sha256")).write_text("grapf")
    again = Builder(builder.source, builder.context, builder.target, COMMON, 0.01)
    calls: list[int] = []
    made = again.quantized(Plan(Form(), method(lambda *arguments: calls.append(1) or writes(*arguments))))
    assert made == file and made.read_text() == "graph" and calls == [1]


def test_a_method_that_is_killed_or_fails_leaves_nothing_that_counts_as_made(builder: Builder) -> None:
    def dies(source: Path, folder: Path, settings: Any) -> None:
        (folder / "model.onnx").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        builder.quantized(Plan(Form(), method(dies)))
    assert builder.quantized(Plan(Form(), method(writes))).read_text() == "graph"


def test_what_a_library_raises_becomes_an_error_of_its_method(builder: Builder) -> None:
    def fails(source: Path, folder: Path, settings: Any) -> None:
        raise ValueError("no such operator\nand more")

    with pytest.raises(StageError, match=r"made-up failed: ValueError: no such operator$"):
        builder.quantized(Plan(Form(), method(fails)))


def test_a_kill_in_the_midst_of_dropping_leaves_no_half_folder(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(Form(), method(writes))
    folder = builder.quantized(plan).parent
    monkeypatch.setattr(builder_module.shutil, "rmtree", lambda *_, **__: None)  # killed before the first file went
    builder.drop(plan)
    monkeypatch.undo()
    assert not folder.exists()
    assert builder.quantized(plan).read_text() == "graph"


def test_a_measurement_is_found_again_and_an_empty_file_is_none(builder: Builder) -> None:
    assert builder.remembered("a", lambda: [1.5]) == [1.5]
    assert builder.remembered("a", lambda: [2.5]) == [1.5]
    (kept,) = builder.folder.glob("*.json")
    kept.write_text("")
    assert builder.remembered("a", lambda: [2.5]) == [2.5]


@pytest.mark.parametrize("text", ["[2.5]", "null", None], ids=["of an older version", "of another program", "altered"])
def test_a_measurement_that_was_altered_is_made_again(text: str | None, builder: Builder) -> None:
    builder.remembered("a", lambda: {"speed": (1.5, 2)})
    (kept,) = builder.folder.glob("*.json")
    kept.write_text(kept.read_text().replace("1.5", "9.5") if text is None else text)
    assert builder.remembered("a", lambda: [3.5]) == [3.5]
    assert builder.remembered("a", lambda: [4.5]) == [3.5]


def test_plans_that_differ_have_keys_that_differ() -> None:
    one = method(writes)
    plans = [
        Plan(Form(), one),
        Plan(Form(rewrites=("mask",)), one),
        Plan(Form(repairs=("values",)), one),
        Plan(Form(), one, (("graph_format", "qoperator"),)),
        Plan(Form(), one, excluded_nodes=("a",)),
    ]
    assert len({plan.key for plan in plans}) == len(plans)
