"""Stage: one step of a recipe, artifact in, artifact out. Its fields are its YAML.

This module and the class bodies of all stages are light: torch and its relatives are imported inside `run`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import numpy.typing as npt

from edgebert.core.packages import is_installed, package_version
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
    """Facts about the models that are known before any work."""

    config: Mapping[str, Any]
    """config.json of the recipe's model. An earlier stage may have made the model smaller than this says, never larger."""
    max_length: int
    """Longest input in tokens."""
    tokenizer: Path | None
    """tokenizer.json, where the folder has one."""
    others: Mapping[str, Mapping[str, Any]]
    """Name of each model that the stage asks for -> its config.json."""
    before: tuple[str, ...] = ()
    """Names of the earlier stages that change the weights, in order."""
    task: Task | None = None
    """The recipe's task."""
    other_tokenizer: bool = False
    """Whether an earlier stage gave the student another model's tokenizer than its teacher has."""


class LayerCosts(Protocol):
    """Mean latency of one query and of its parts, in milliseconds."""

    @property
    def rest(self) -> float:
        """Milliseconds outside the encoder layers."""
        ...

    @property
    def whole(self) -> float:
        """Milliseconds of the whole unpruned model, timed as one and not summed from its parts."""
        ...

    def attention(self, heads: int) -> float:
        """Milliseconds of the attention half of a layer with this many heads."""
        ...

    def ffn(self, neurons: int) -> float:
        """Milliseconds of the FFN half of a layer with this many neurons."""
        ...


@dataclass(frozen=True)
class Scored:
    """A candidate's answers on eval rows."""

    outputs: npt.NDArray[Any]
    """The task's first output for each row, or for each token, of shape (rows or tokens, labels)."""
    metrics: Mapping[str, float]
    """Metric name -> value, for the task's metrics and `agreement` with FP32."""
    score: float
    """Value of the task's first metric; -inf where an answer is not finite."""
    failures: tuple[str, ...]
    """One reason for each gate on answers that the candidate misses."""


class Speeds(Protocol):
    """Latencies of models that took turns at the same queries."""

    def ratio(self, index: int, reference: int = 0) -> float:
        """How many times as fast as the reference a model is."""
        ...


class CandidateTrials(Protocol):
    """Measures candidates for one target."""

    @property
    def rows(self) -> Sequence[Any]:
        """The rows that choose, which candidates answer."""
        ...

    @property
    def allowed_drop(self) -> float:
        """Largest drop of the task's first metric below FP32's that the gates on it allow."""
        ...

    def score(self, file: Path, target: Target, rows: int | None = None) -> Scored:
        """A candidate's answers on all rows, or on the first `rows`."""
        ...

    def baseline(self, rows: int | None = None) -> Scored:
        """FP32's answers on all rows, or on the first `rows`."""
        ...

    def time(self, models: Sequence[tuple[Path, Target]]) -> Speeds:
        """Latencies of models, measured in turns."""
        ...


class Cached(Protocol):
    """Makes an expensive intermediate result once and keeps it in the store."""

    def __call__(
        self, name: str, version: int, identity: Mapping[str, Any], parent: str, make: Callable[[Draft], Mapping[str, Any]]
    ) -> Artifact:
        """The artifact with this identity: from the store, or filled by `make`."""
        ...


@dataclass(frozen=True)
class RunContext:
    """What a stage may use besides its source."""

    out: Path
    """Empty folder; what the stage writes here becomes the artifact."""
    work: Path
    """Folder for checkpoints; it survives a kill."""
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
    """(shape, tokens of each text) -> INT8 latency of layers on the first target that has a candidate, measured once on
    each machine."""
    trials: Callable[[Target, Artifact], CandidateTrials]
    """(target, model) -> the trials of INT8 candidates of that model for that target of the recipe."""
    seed: int
    progress: Progress


class Stage(Strict, ABC):
    """One step. A subclass declares `stage: Literal["its-name"]` and its parameters as fields with defaults.

    A stage never edits its source; it writes into `context.out` and returns the facts for the manifest. The store makes
    the artifact from them, because an artifact exists only once all of its files are written.
    """

    version: ClassVar[int]
    """Raise it when the same parameters give another result: the cache then misses."""
    accepts: ClassVar[str]
    produces: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    """What it needs besides its source: any of `train`, `examples` (train, or rows without labels: transfer), `eval`,
    `select` (rows to choose on), `calibration`, `teacher`, `target` (the first that has a candidate), `machine`, `gates` (on
    answers), `head` (a model that was fine-tuned for the task)."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Packages that must be installed."""
    keyed_by_packages: ClassVar[bool] = False
    """Whether the versions of its packages are part of the key: yes for cheap stages whose result depends on the library,
    no for training, where an upgrade must not throw hours of work away."""
    makes_teacher: ClassVar[bool] = False
    """Whether its result is the FP32 model that candidates are judged against, and not itself a candidate."""
    graph_precision: ClassVar[Literal["fp32", "int8"]] = "fp32"
    """Precision of the graph that it makes."""
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
        """Name of its candidate, shown after the target's name; unique among a target's steps when its parameters are."""
        return self.label

    def expand(self, targets: Sequence[Target]) -> tuple[Stage, ...]:
        """The steps that one entry of a recipe's `stages` becomes, given the recipe's targets."""
        return (self,)

    def fits(self, target: Target, steps: Collection[Stage]) -> bool:
        """Whether a target takes this step's graph as a candidate. `steps` are all steps of the run."""
        return True

    def input_format(self) -> str:
        """Format of the source artifact."""
        return self.accepts

    def output_format(self) -> str:
        """Format of the artifact that it makes."""
        return self.produces

    def required_packages(self) -> tuple[str, ...]:
        """Packages that must be installed to run it."""
        return self.packages

    def missing_packages(self) -> list[str]:
        """Required packages that are not installed."""
        return [name for name in self.required_packages() if not is_installed(name)]

    def require_packages(self) -> None:
        """Raises MissingPackage for the first required package that is not installed."""
        for name in self.missing_packages():
            raise MissingPackage(name, needed_for=f"The stage {self.label}")

    def needed(self) -> frozenset[str]:
        """What this instance needs besides its source, by the names in `needs`."""
        return self.needs

    def models(self) -> tuple[str, ...]:
        """Other models that it needs, written as in a recipe's `model`."""
        return ()

    def starts(self) -> tuple[str, ...]:
        """Those of `models` whose weights are only a start, so that they need no head for the task."""
        return ()

    def after(self, model: ModelFacts) -> ModelFacts:
        """The facts that later stages know, after a model with these went through this one."""
        return model

    def faults(self, model: ModelFacts) -> list[str]:
        """Messages about settings that cannot work with the model; checked before any work."""
        return []

    def parameters(self) -> dict[str, Any]:
        """Its fields, for keys and reports."""
        return self.model_dump(mode="json", exclude={"stage"})

    def package_versions(self) -> dict[str, str]:
        """Installed versions of its required packages."""
        return {name: package_version(name) for name in self.required_packages()}

    @abstractmethod
    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Makes the artifact's files in `context.out`; returns the facts for its manifest."""

    @classmethod
    def example(cls) -> Self:
        """An instance with default parameters, for the contract tests."""
        return cls()
