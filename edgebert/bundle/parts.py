"""The parts that a bundle is made from: its entries (a model on a target, with golden outputs), the model, the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgebert.core.store import Artifact
from edgebert.report.entry import Role
from edgebert.runtimes import get_runtime
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target

if TYPE_CHECKING:
    from edgebert.report.report import Report
    from edgebert.report.verdict import JudgedEntry, Verdict


@dataclass(frozen=True)
class BundleEntry:
    """One graph for the bundle. FP32 is left out where its tokenizer is not the best entry's."""

    planned: PlannedEntry
    judged: JudgedEntry | None
    """None for FP32, which no gate judges."""
    goldens: GoldenOutputs


@dataclass(frozen=True)
class BundleParts:
    """Everything that a bundle is written from."""

    name: str
    model: Artifact
    serving: Serving
    variants: Sequence[BundleEntry]
    """With the best entry. All use `serving`, because a bundle has one tokenizer."""
    report: Report
    verdict: Verdict
    lineage: Sequence[dict[str, Any]]
    recipe: str
    """sha256 of the recipe, as run.json has it."""


@dataclass(frozen=True)
class PlannedEntry:
    """One model on one target, about to be measured."""

    name: str
    role: Role
    stage: str
    precision: Literal["fp32", "int8"]
    artifact: Artifact
    model: Artifact
    """The Transformers model that the artifact was made from."""
    target: Target
    serving: Serving

    @property
    def model_file(self) -> Path:
        """The graph file that the runtime opens."""
        return self.artifact.path / get_runtime(self.target.runtime).model_file


@dataclass(frozen=True)
class GoldenOutputs:
    """Inputs, and the outputs of one model for them, each computed at batch size 1."""

    rows: list[dict[str, str]]
    token_ids: list[list[int]]
    outputs: dict[str, list[Any]]
