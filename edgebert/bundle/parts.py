"""What a bundle is made of: its entries, the model they share, and the report that judged them."""

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
    """One graph for the bundle. FP32 has no judged, and is not there where its tokenizer is not the best's."""

    planned: PlannedEntry
    judged: JudgedEntry | None
    goldens: GoldenOutputs


@dataclass(frozen=True)
class BundleParts:
    """What a bundle is made of."""

    name: str
    model: Artifact
    serving: Serving
    variants: Sequence[BundleEntry]
    """The best is among them. All are served by `serving`: a bundle has one tokenizer."""
    report: Report
    verdict: Verdict
    lineage: Sequence[dict[str, Any]]


@dataclass(frozen=True)
class PlannedEntry:
    """One model on one target, about to be checked."""

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
        """The file that its runtime opens."""
        return self.artifact.path / get_runtime(self.target.runtime).model_file


@dataclass(frozen=True)
class GoldenOutputs:
    """Inputs and what one model answers to them, each alone in its batch."""

    rows: list[dict[str, str]]
    token_ids: list[list[int]]
    outputs: dict[str, list[Any]]
