"""Stage: one step of a recipe, artifact in, artifact out. Its fields are its YAML.

This module and the class bodies of all stages are light: torch and its relatives are imported inside `run`.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import numpy.typing as npt

from edgebert.core.libraries import package_version
from edgebert.core.progress import Progress
from edgebert.core.store import Artifact
from edgebert.core.strict import Strict
from edgebert.errors import MissingPackage
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Encoded, Task

if TYPE_CHECKING:
    from edgebert.core.store import Draft
    from edgebert.data.prepared import PreparedData
    from edgebert.models.sizes import Shape
    from edgebert.runtimes.serving import Serving
    from edgebert.stages.examples import Examples


@dataclass(frozen=True)
class ModelFacts:
    """What is known of the models before any work."""

    config: Mapping[str, Any]
    """config.json of the recipe's model, with its sizes. A stage before this one may have removed parts, never added any."""
    max_length: int
    """Longest input in tokens."""
    tokenizer: Path | None
    """tokenizer.json, where the folder has one."""
    others: Mapping[str, Mapping[str, Any]]
    """config.json of each model that the stage names."""
    before: tuple[str, ...] = ()
    """Names of the stages before this one that change the weights, in order."""


class LayerCosts(Protocol):
    """Mean milliseconds of one query."""

    @property
    def rest(self) -> float:
        """Of everything but the layers."""
        ...

    @property
    def whole(self) -> float:
        """Of the whole model that is asked about, timed as it is."""
        ...

    def attention(self, heads: int) -> float:
        """Of the attention half of a layer with this many heads."""
        ...

    def ffn(self, neurons: int) -> float:
        """Of the FFN half of a layer with this many neurons."""
        ...


@dataclass(frozen=True)
class Scored:
    """A candidate's answers on eval rows."""

    outputs: npt.NDArray[Any]
    """The task's first output for each row, of shape (rows, ...)."""
    metrics: Mapping[str, float]
    """The task's own, and `agreement` with FP32."""
    score: float
    """The task's first; -inf for answers that are not finite."""
    failures: tuple[str, ...]
    """The reasons of the gates on them that it misses."""


class Speeds(Protocol):
    """Models that took turns at the same queries."""

    def ratio(self, index: int, reference: int = 0) -> float:
        """How many times faster a model is than the reference."""
        ...

    def p50_ms(self, index: int) -> float:
        """Median latency."""
        ...


class CandidateTrials(Protocol):
    """Measures candidates for one target."""

    @property
    def rows(self) -> Sequence[Any]:
        """The eval rows that it looks at."""
        ...

    @property
    def allowed_drop(self) -> float:
        """How far the task's first metric may fall below FP32's, by the gates on it."""
        ...

    def score(self, file: Path, target: Target, rows: int | None = None) -> Scored:
        """A candidate's answers; on the first rows alone, where their number is given."""
        ...

    def baseline(self, rows: int | None = None) -> Scored:
        """FP32's own."""
        ...

    def time(self, models: Sequence[tuple[Path, Target]]) -> Speeds:
        """Lets models take turns."""
        ...


class Cached(Protocol):
    """Keeps in the store what is expensive and may serve again."""

    def __call__(
        self, name: str, version: int, identity: Mapping[str, Any], parent: str, make: Callable[[Draft], Mapping[str, Any]]
    ) -> Artifact:
        """The artifact that `make` fills, found by the identity where it is there."""
        ...


@dataclass(frozen=True)
class RunContext:
    """What a stage may use besides its source."""

    out: Path
    """Empty folder; what the stage writes here becomes the artifact."""
    work: Path
    """Folder that survives a kill; the place for checkpoints."""
    task: Task
    labels: tuple[str, ...]
    max_length: int
    data: Mapping[str, PreparedData]
    serving: Callable[[Artifact], Serving]
    """How text reaches an artifact's model: its tokenizer, lengths and padding."""
    calibration: Sequence[Encoded]
    teacher: Artifact | None
    """The FP32 model that candidates are judged against; distillation learns from it."""
    models: Mapping[str, Artifact]
    """The other models that the stage names."""
    examples: Callable[[Artifact], Examples]
    """The rows of `data.train` and `data.transfer`, tokenised for an artifact's model."""
    lineage: Callable[[Artifact], Sequence[Artifact]]
    """An artifact and its chain of parents, nearest first."""
    cached: Cached
    layer_costs: Callable[[Shape, Sequence[int]], LayerCosts]
    """(shape, lengths of texts) -> what layers cost in INT8 on the first target that has a candidate, measured once on
    a machine."""
    trials: Callable[[Target, Artifact], CandidateTrials]
    """(target, model) -> what measures INT8 candidates of that model for that target of the recipe."""
    seed: int
    progress: Progress


class Stage(Strict, ABC):
    """One step. A subclass declares `stage: Literal["its-name"]` and its parameters as fields with defaults.

    A stage never edits its source; it writes into `context.out` and returns the facts for the manifest. The store makes
    the artifact from them, because an artifact exists only once it is whole and in its place.
    """

    version: ClassVar[int]
    """Raise it when the same parameters give another result: the cache then misses."""
    accepts: ClassVar[str]
    produces: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    """Of `train`, `examples` (train, or rows without labels: transfer), `eval`, `calibration`, `teacher`, `target` (the
    first that has a candidate), `machine`, `gates` (those on answers), `head` (a model that was fine-tuned for the task)."""
    packages: ClassVar[tuple[str, ...]] = ()
    """What must be installed."""
    keyed_by_packages: ClassVar[bool] = False
    """Whether the versions of its packages are part of the key: so for cheap stages whose result is the library's own;
    not for training, where an upgrade must not throw hours of work away."""
    makes_teacher: ClassVar[bool] = False
    """Whether its result is the FP32 model that candidates are judged against, and not itself a candidate."""
    graph_precision: ClassVar[Literal["fp32", "int8"]] = "fp32"
    """Of the graph that it makes."""
    final: ClassVar[bool] = False
    """A final stage makes a candidate: later stages do not build on its result."""

    @classmethod
    def stage_name(cls) -> str:
        """The name that recipes use."""
        return str(cls.model_fields["stage"].default)

    @property
    def label(self) -> str:
        """Short name of this step in tables; unique within a recipe when its parameters are."""
        return self.stage_name()

    @property
    def candidate_name(self) -> str:
        """Name of what it makes, beside the target's; unique among a target's steps when its parameters are."""
        return self.label

    def expand(self, targets: Sequence[Target]) -> tuple[Stage, ...]:
        """The steps that one entry of a recipe stands for, given the recipe's targets."""
        return (self,)

    def fits(self, target: Target, steps: Collection[Stage]) -> bool:
        """Whether a target takes this step's graph as a candidate. `steps` are all of the run's."""
        return True

    def input_format(self) -> str:
        """Format of the source artifact."""
        return self.accepts

    def output_format(self) -> str:
        """Format of the artifact that it makes."""
        return self.produces

    def required_packages(self) -> tuple[str, ...]:
        """What must be installed to run it."""
        return self.packages

    def missing_packages(self) -> list[str]:
        """Those that are not installed."""
        return [name for name in self.required_packages() if importlib.util.find_spec(name) is None]

    def require_packages(self) -> None:
        """Raises MissingPackage for the first that is not installed."""
        for name in self.missing_packages():
            raise MissingPackage(name, needed_for=f"The stage {self.label}")

    def needed(self) -> frozenset[str]:
        """What it needs besides its source."""
        return self.needs

    def models(self) -> tuple[str, ...]:
        """Other models that it needs, as a recipe's `model` names one."""
        return ()

    def faults(self, model: ModelFacts) -> list[str]:
        """What cannot work with the model, found before any work."""
        return []

    def parameters(self) -> dict[str, Any]:
        """Its fields, for keys and reports."""
        return self.model_dump(mode="json", exclude={"stage"})

    def package_versions(self) -> dict[str, str]:
        """Installed versions of the packages that it runs on."""
        return {name: package_version(name) for name in self.required_packages()}

    @abstractmethod
    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Makes the artifact's files in `context.out`; returns the facts for its manifest."""

    @classmethod
    def example(cls) -> Self:
        """An instance with default parameters, for the contract tests."""
        return cls()
