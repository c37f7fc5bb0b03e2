"""export: an FP32 graph for each runtime, compared with its source. ONNX comes from torch, every other format from ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgebert.core.store import Artifact
from edgebert.runtimes import RUNTIMES, get_runtime, runtime_of_format
from edgebert.runtimes.facts import ONNX
from edgebert.runtimes.target import Target
from edgebert.stages.base import RunContext, Stage
from edgebert.stages.export.onnx_graph import (
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
    "REWRITES",
    "REWRITE_TOLERANCE",
    "TOLERANCE",
    "Export",
    "Rewrite",
    "compare",
    "export_model",
    "export_onnx",
    "onnx_program",
    "outputs_only",
    "write_clean",
]

FORMATS = tuple(dict.fromkeys(runtime.format for runtime in RUNTIMES))
EXPORT_PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "optimum")
"""Packages of the export from PyTorch to ONNX."""


class Export(Stage):
    """Exports with named, dynamic `batch` and `sequence` dimensions, then compares the graph with its source.

    Sample:

        - export
    """

    stage: Literal["export"] = "export"
    formats: tuple[Literal[FORMATS], ...] | None = Field(  # type: ignore[valid-type]
        None,
        description="Default: the formats that the targets need. Others are made from ONNX, so ONNX is always exported.",
    )

    version: ClassVar[int] = 2
    accepts: ClassVar[str] = "transformers"
    produces: ClassVar[str] = ONNX
    needs: ClassVar[frozenset[str]] = frozenset({"head"})
    keyed_by_packages: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """`export-onnx` or `export-openvino` once expanded."""
        return f"export-{self.output_format()}"

    def expand(self, targets: Sequence[Target]) -> tuple[Stage, ...]:
        """One step for each format, ONNX first."""
        wanted = self.formats or [get_runtime(target.runtime).format for target in targets]
        others = [graph_format for graph_format in FORMATS if graph_format in wanted and graph_format != ONNX]
        return tuple(Export(formats=(graph_format,)) for graph_format in (ONNX, *others))

    def output_format(self) -> str:
        """The only format of an expanded step."""
        return str(self.formats[0]) if self.formats else self.produces

    def input_format(self) -> str:
        """Transformers for ONNX, ONNX for another format."""
        return self.accepts if self.output_format() == ONNX else ONNX

    def needed(self) -> frozenset[str]:
        """For ONNX a model with the task's head: a graph without one is useless."""
        return self.needs if self.output_format() == ONNX else frozenset()

    def required_packages(self) -> tuple[str, ...]:
        """The packages of the ONNX export, or of the conversion from ONNX."""
        return EXPORT_PACKAGES if self.output_format() == ONNX else runtime_of_format(self.output_format()).converter_packages

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes the file that a runtime of the format opens."""
        runtime = runtime_of_format(self.output_format())
        with context.progress.step(f"export to {'ONNX' if runtime.format == ONNX else runtime.title}"):
            if runtime.format == ONNX:
                return export_onnx(source.path, context.task, context.out / runtime.model_file)
            runtime.convert(source.path / runtime_of_format(ONNX).model_file, context.out)
            return {}


def export_onnx(folder: Path, task: Task, target: Path) -> dict[str, Any]:
    """Exports a Transformers folder as ONNX, and compares: the graph's outputs may differ from torch's by TOLERANCE at most.

    Raises:
        StageError: the export fails, or its numbers differ.
    """
    from edgebert.models.load import load_model

    return export_model(load_model(folder, task), task, target, name=str(folder))
