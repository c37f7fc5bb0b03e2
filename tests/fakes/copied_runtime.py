"""A runtime that somebody else might add: its graphs are ONNX in files of its own name, and ONNX Runtime runs them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from edgebert.runtimes.base import Held, Runtime, Session
from edgebert.runtimes.facts import HubNames, LayerEffort, RuntimeOptions, Tunable
from edgebert.runtimes.onnxruntime import OnnxRuntimeSession
from edgebert.runtimes.target import Target


class CopiedOptions(RuntimeOptions):
    """Its options."""

    default_bucket: ClassVar[int] = 4
    mood: Literal["calm", "hasty"] = Field("calm", description="how it goes about its work.")
    skipped: tuple[str, ...] = Field((), description="what it leaves out.")


class Copied(Runtime):
    """Opens `model.copied`."""

    name = "copied"
    title = "Copied Runtime"
    options = CopiedOptions
    format = "copied"
    model_file = "model.copied"
    file_title = "a copied graph"
    opens = (".copied",)
    container = "onnx"
    hub = HubNames("copied", "model", "model_int8.copied")
    package = "onnxruntime"
    extra = "compress"
    device_extra = "copied"
    compiles_each_shape = True
    layer_effort = LayerEffort(rounds=1, heads=1, widths=2, seconds=0.1)

    def open(self, model: Path, target: Target, held: Held | None = None) -> Session:
        """Opens it as ONNX."""
        self.require()
        return OnnxRuntimeSession(model, target, held)

    def convert(self, graph: Path, folder: Path) -> None:
        """Copies it."""
        shutil.copyfile(graph, folder / self.model_file)

    def tunables(self, target: Target) -> Sequence[Tunable]:
        """Both moods."""
        return [Tunable("in haste", {"mood": "hasty"}, changes_answers=True), Tunable("without this", {"skipped": ("this",)})]


def lines() -> Sequence[str]:
    """The lines that register it and a quantisation method for its format."""
    return (
        "edgebert.runtimes RUNTIMES copied_runtime Copied instance",
        "edgebert.stages.quantize.methods METHODS copied_method TimidCopied class",
    )
