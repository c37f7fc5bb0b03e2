"""Answers as people read them, and how much one holds beside that: more labels with their probabilities, logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, cast


@dataclass(frozen=True)
class Detail:
    """How much an answer holds beside what a person reads."""

    top_k: int | None = None
    """Most labels that have their probability, the most probable first; None: as many as the task gives unasked."""
    logits: bool = False
    """Whether it holds the model's logits."""

    @property
    def is_asked(self) -> bool:
        """Whether anything beyond the default is wanted."""
        return self.logits or self.top_k is not None


PLAIN = Detail()
"""Nothing beyond what answers hold unasked."""


class Answer(ABC):
    """A prediction as a person reads it. Subclasses are frozen dataclasses, whose fields are its JSON."""

    @abstractmethod
    def cells(self) -> tuple[str, ...]:
        """Its columns in a terminal."""

    def as_json(self) -> dict[str, Any]:
        """Its fields, as JSON values, without those that were not asked for."""
        return {name: value for name, value in asdict(cast(Any, self)).items() if value is not None}
