"""export: an FP32 graph for each runtime, compared with its source. ONNX comes from torch, OpenVINO's IR from ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgebert.core.packages import quiet_libraries
from edgebert.core.store import Artifact
from edgebert.errors import StageError
from edgebert.runtimes import get_runtime
from edgebert.runtimes.openvino import save_ir
from edgebert.runtimes.target import Target
from edgebert.stages.base import RunContext, Stage
from edgebert.stages.export.onnx_graph import (
    FOR_ONNXRUNTIME_ALONE,
    INPUTS,
    REWRITE_TOLERANCE,
    REWRITES,
    TOLERANCE,
    Rewrite,
    compare,
    export_model,
    onnx_program,
    outputs_only,
    write_clean,
)
from edgebert.tasks.base import Task

__all__ = [
    "FOR_ONNXRUNTIME_ALONE",
    "INPUTS",
    "REWRITES",
    "REWRITE_TOLERANCE",
    "TOLERANCE",
    "Export",
    "Rewrite",
    "compare",
    "convert_to_openvino",
    "export_model",
    "export_onnx",
    "onnx_program",
    "outputs_only",
    "write_clean",
]


class Export(Stage):
    """Exports with named, dynamic `batch` and `sequence` dimensions, then compares the graph with its source.

    Sample:

        - export
    """

    stage: Literal["export"] = "export"
    formats: tuple[Literal["onnx", "openvino"], ...] | None = Field(
        None,
        description="Default: the formats that the targets need. OpenVINO's IR is made from ONNX, so ONNX is always exported.",
    )

    version: ClassVar[int] = 2
    accepts: ClassVar[str] = "transformers"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[frozenset[str]] = frozenset({"head"})
    keyed_by_packages: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """`export-onnx` or `export-openvino` once expanded."""
        return f"export-{self.output_format()}"

    def expand(self, targets: Sequence[Target]) -> tuple[Stage, ...]:
        """One step for each format, ONNX first."""
        formats: Sequence[str] = self.formats or [get_runtime(target.runtime).format for target in targets]
        steps: tuple[Stage, ...] = (Export(formats=("onnx",)),)
        return (*steps, Export(formats=("openvino",))) if "openvino" in formats else steps

    def output_format(self) -> str:
        """The only format of an expanded step."""
        return self.formats[0] if self.formats else self.produces

    def input_format(self) -> str:
        """Transformers for ONNX, ONNX for OpenVINO."""
        return "onnx" if self.output_format() == "openvino" else self.accepts

    def needed(self) -> frozenset[str]:
        """For ONNX a model with the task's head: a graph without one is useless."""
        return self.needs if self.output_format() == "onnx" else frozenset()

    def required_packages(self) -> tuple[str, ...]:
        """The packages of the ONNX export, or openvino."""
        onnx = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "optimum")
        return onnx if self.output_format() == "onnx" else ("openvino",)

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes model.onnx, or openvino_model.xml and .bin."""
        if self.output_format() == "openvino":
            with context.progress.step("export to OpenVINO"):
                convert_to_openvino(source.path / "model.onnx", context.out / "openvino_model.xml")
            return {}
        with context.progress.step("export to ONNX"):
            return export_onnx(source.path, context.task, context.out / "model.onnx")


def export_onnx(folder: Path, task: Task, target: Path) -> dict[str, Any]:
    """Exports a Transformers folder as ONNX, and compares: the graph's outputs may differ from torch's by TOLERANCE at most.

    Raises:
        StageError: the export fails, or its numbers differ.
    """
    from edgebert.models.load import load_model

    return export_model(load_model(folder, task), task, target, name=str(folder))


def convert_to_openvino(graph: Path, target: Path) -> None:
    """ONNX -> OpenVINO IR, FP32.

    Raises:
        StageError: OpenVINO cannot convert it.
    """
    try:
        with quiet_libraries():
            import openvino as ov

            save_ir(ov.convert_model(str(graph)), target)
    except RuntimeError as error:
        raise StageError(f"The conversion of {graph} to OpenVINO failed: {str(error).splitlines()[0]}") from error
