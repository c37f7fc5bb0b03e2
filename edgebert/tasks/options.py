"""TaskOptions: what only one task has, flat beside the other fields of a recipe's `task`, and kept in the bundle."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class TaskOptions(BaseModel):
    """The options of a task that has none. Those of another are a subclass, whose fields have defaults and descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    seen_outside: ClassVar[frozenset[str]] = frozenset()
    """Names of the options that whoever asks a model has to know of: they change what its answers mean."""

    def of_answers(self) -> dict[str, Any]:
        """The options that are `seen_outside` and not at their defaults, as JSON values."""
        return {name: value for name, value in self.changed().items() if name in self.seen_outside}

    def changed(self) -> dict[str, Any]:
        """The options that are not at their defaults, as JSON values: what keys, jobs and bundles hold."""
        default = type(self)().model_dump(mode="json")
        return {name: value for name, value in self.model_dump(mode="json").items() if value != default[name]}

    @property
    def key(self) -> str:
        """The options that are not at their defaults, as text; empty where all are."""
        return json.dumps(self.changed(), sort_keys=True) if self.changed() else ""
