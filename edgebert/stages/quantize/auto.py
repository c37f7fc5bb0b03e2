"""quantize: auto. The stage that searches, for one target, the fastest INT8 model that passes the gates on answers.

1. It tries settings of the runtime and rewrites of the graph, and keeps those that are measured to be faster.
2. It tries every method that fits the target on the best graph, scores them on rows that choose and times them in turns.
3. The fastest candidate that passes wins. If none passes, the model is repaired, and its weakest layers stay float.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgebert.core.packages import package_version
from edgebert.core.store import Artifact
from edgebert.runtimes import get_runtime
from edgebert.runtimes.isa import overflows
from edgebert.runtimes.target import Target
from edgebert.stages.base import RunContext, Stage
from edgebert.stages.export import EXPORT_PACKAGES
from edgebert.stages.quantize.method import Method
from edgebert.stages.quantize.methods import searched_methods, usual_method


class QuantizeAuto(Stage):
    """The search for one target; recipes write `quantize: {method: auto}`."""

    stage: Literal["quantize"] = "quantize"
    target: Target = Field(Target(runtime="onnxruntime"), description="The target that the model is for.")
    embeddings: bool = Field(True, description="Quantise the embedding tables too.")

    version: ClassVar[int] = 2
    accepts: ClassVar[str] = "transformers"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[frozenset[str]] = frozenset({"head", "select", "calibration", "teacher", "machine", "gates"})
    graph_precision: ClassVar[Literal["fp32", "int8"]] = "int8"
    final: ClassVar[bool] = True
    keyed_by_packages: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """`int8-auto-` and the target's name."""
        return f"int8-auto-{self.target.name}"

    @property
    def candidate_name(self) -> str:
        """`int8-auto`, which is shown after the target's name."""
        return "int8-auto"

    def fits(self, target: Target, steps: Collection[Stage]) -> bool:
        """Only for its own target."""
        return target == self.target

    def output_format(self) -> str:
        """The format that the target's runtime opens."""
        return get_runtime(self.target.runtime).format

    def parameters(self) -> dict[str, Any]:
        """Its fields, with the target's identity, and the methods that are installed."""
        names = [method.method_name() for method in self.methods()]
        return {**super().parameters(), "target": self.target.identity(), "methods": names}

    def package_versions(self) -> dict[str, str]:
        """Versions of its packages and of those of every installed method."""
        names = dict.fromkeys(name for method in self.methods() for name in method.packages)
        return {**super().package_versions(), **{name: package_version(name) for name in names}}

    def required_packages(self) -> tuple[str, ...]:
        """Packages of the export, of the conversion from it, and of the method that the search begins with."""
        first = usual_method(self.output_format())
        own = (*get_runtime(self.target.runtime).converter_packages, *(first.packages if first else ()))
        return tuple(dict.fromkeys((*EXPORT_PACKAGES, *own)))

    def methods(self) -> list[type[Method]]:
        """Installed methods whose result the target runs without overflow."""
        narrow = overflows(self.target)
        found = [method for method in searched_methods(self.output_format()) if not method.missing_packages()]
        return [method for method in found if not narrow or (method().narrowed() or method()).any_cpu]

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes the winner; the facts hold the record of the search."""
        from edgebert.stages.quantize.search import Search

        for method in searched_methods(self.output_format()):
            if missing := method.missing_packages():
                context.progress.note(
                    f"{self.target.name}: {method.method_name()} is not tried: {', '.join(missing)} is not installed"
                )
        common = {"per_channel": True, "embeddings": self.embeddings, "reduce_range": overflows(self.target)}
        search = Search(source, context, self.target, self.methods(), common)
        file, record, any_cpu = search.run()
        for part in file.parent.glob(f"{file.stem}.*"):  # an .xml has its .bin beside it
            shutil.copyfile(part, context.out / part.name)
        return {"any_cpu": any_cpu, "search": record.model_dump(mode="json")}


def for_targets(targets: Sequence[Target], *, embeddings: bool) -> tuple[Stage, ...]:
    """A search for each target."""
    return tuple(QuantizeAuto(target=target, embeddings=embeddings) for target in targets)
