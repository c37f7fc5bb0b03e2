"""Method: one way to quantise a model. Its fields are its YAML; what the search of `auto` has to know of it are its facts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field

from edgebert.core.packages import is_installed
from edgebert.core.strict import Strict
from edgebert.stages.quantize.repair import WEIGHT_REPAIRS
from edgebert.stages.quantize.settings import Settings


class Method(Strict, ABC):
    """A subclass declares `method: Literal["its-name"]` with that default, and its own parameters with defaults and bounds."""

    method: str = ""

    format: ClassVar[str]
    """Format of its result, and of its source where that is a graph."""
    from_graph: ClassVar[bool] = True
    """Whether its source is the FP32 graph; otherwise it is the Transformers folder."""
    calibrated: ClassVar[bool] = False
    """Whether it takes ranges from calibration data."""
    scored: ClassVar[bool] = False
    """Whether it uses the score."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Packages that must be installed."""
    searched: ClassVar[tuple[tuple[tuple[str, Any], ...], ...]] = ()
    """Parameters that `auto` tries it with, one tuple of (name, value) pairs a try; empty where `auto` does not try it."""
    repairs: ClassVar[tuple[str, ...]] = tuple(WEIGHT_REPAIRS)
    """Names of the repairs in `repair.py` that can help it."""

    @abstractmethod
    def quantize(self, source: Path, target: Path, settings: Settings) -> Mapping[str, Any]:
        """Writes the file that the runtime of its format opens.

        Args:
            source: the FP32 graph, or a Transformers folder.
            target: an empty folder.

        Returns:
            Facts for the artifact's manifest.

        Raises:
            StageError: the model cannot be quantised.
        """

    @classmethod
    def method_name(cls) -> str:
        """The name that recipes use."""
        return str(cls.model_fields["method"].default)

    @classmethod
    def source_format(cls) -> str:
        """Format of its source."""
        return cls.format if cls.from_graph else "transformers"

    @classmethod
    def missing_packages(cls) -> list[str]:
        """Its packages that are not installed."""
        return [name for name in cls.packages if not is_installed(name)]

    @classmethod
    def parameters(cls) -> tuple[str, ...]:
        """Names of its parameters."""
        return tuple(name for name in cls.model_fields if name != "method")

    @property
    def weight_bits(self) -> int:
        """Bits that a weight is stored in."""
        return 8

    @property
    def quantises_tables(self) -> bool:
        """Whether it quantises embedding tables itself; otherwise those of an ONNX graph are INT8 in its source."""
        return False

    @property
    def any_cpu(self) -> bool:
        """Whether its INT8 sums saturate on no CPU, with or without 8-bit dot products."""
        return False

    @property
    def overflow_fix(self) -> tuple[str, str]:
        """Parameter to change where its sums would overflow on a target, and how, as an instruction."""
        return "method", "Take another method."

    def narrowed(self) -> Self | None:
        """With weights of 7 bits, where a recipe leaves the width to the target; None where it does not, or has no width."""
        return None

    def widened(self) -> Self | None:
        """With weights of 8 bits, where it has 7; otherwise None."""
        return None

    def marks(self, shared: Sequence[str]) -> list[str]:
        """Short words for parameters that differ from their defaults, for the step's label, `shared` marks among them."""
        return [*shared]

    def is_given(self, name: str) -> bool:
        """Whether a parameter differs from its default."""
        return bool(getattr(self, name) != type(self).model_fields[name].default)


class IntegerProducts(Method):
    """A method whose products multiply 8-bit activations with 8-bit weights."""

    per_channel: bool = Field(True, description="One weight scale for each output channel, instead of one for each matrix.")
    reduce_range: bool | None = Field(
        None,
        description="Weights in 7 bits, so that INT8 accumulation saturates on no CPU. Default: where the target's instruction "
        "set needs it.",
    )

    @property
    def any_cpu(self) -> bool:
        """Sums of products with 7-bit weights fit into 16 bits."""
        return bool(self.reduce_range)

    @property
    def overflow_fix(self) -> tuple[str, str]:
        """8 bits were asked for."""
        return "reduce_range", "Drop reduce_range."

    def narrowed(self) -> Self | None:
        """7 bits where no width is given."""
        return self.model_copy(update={"reduce_range": True}) if self.reduce_range is None else None

    def widened(self) -> Self | None:
        """8 bits instead of 7."""
        return self.model_copy(update={"reduce_range": None}) if self.reduce_range else None

    def marks(self, shared: Sequence[str]) -> list[str]:
        """`tensor`, then marks of its own, then `7bit`."""
        return [
            *([] if self.per_channel else ["tensor"]),
            *shared,
            *self.own_marks(),
            *(["7bit"] if self.reduce_range else []),
        ]

    def own_marks(self) -> list[str]:
        """Marks of the parameters that only this method has."""
        return []


class ScoredProducts(IntegerProducts):
    """Integer products that are tuned until the score holds."""

    scored: ClassVar[bool] = True
    max_drop: float = Field(
        0.01, ge=0, lt=1, description="Largest drop of the task's first metric below FP32's, on the rows that choose."
    )

    def marks(self, shared: Sequence[str]) -> list[str]:
        """Those of every product, then `drop0.02`."""
        return [*super().marks(shared), *([f"drop{self.max_drop:g}"] if self.is_given("max_drop") else [])]
