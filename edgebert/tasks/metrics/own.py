"""own_metric: a function of the user's as a metric: predictions in, statistics of each example out.

It is named in a recipe as `package.module:function` or `file.py:function`. Naming it runs its module: only a recipe does, never
a bundle or a report, which hold its statistics.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgebert.errors import InputError
from edgebert.tasks.metrics.base import AnswerMetric
from edgebert.tasks.reductions import REDUCTIONS, Rows, number_labels

NAME = re.compile(r"[\w./-]+:[A-Za-z_]\w*")
"""What names a function: a module, or a file beside the recipe, then the function."""
LARGEST = 1e15
"""Largest absolute statistic that a report holds."""


def is_own(name: str) -> bool:
    """Whether a metric's name is that of a function, as no other metric's is."""
    return ":" in name


def own_metric(name: str, base: Path) -> AnswerMetric:
    """The metric of a function; its attributes `reduction` ("mean" by default) and `less_is_better` (False) say the rest.

    Args:
        name: `package.module:function`, or `file.py:function`.
        base: the recipe's folder, in which the file is.

    Raises:
        InputError: there is no such module or function, its module fails, or its attributes mean nothing.
    """
    place, _, called = name.rpartition(":")
    function = getattr(_module(place, base, name), called, None)
    if not callable(function):
        raise InputError(f"The metric {name}: {place} has no function {called}.", hint="Correct the name in `metrics`.")
    reduction = getattr(function, "reduction", "mean")
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        hint = f"Its attribute `reduction` is one of {', '.join(REDUCTIONS)}."
        raise InputError(f"The metric {name} has the reduction {reduction!r}, which edgebert does not have.", hint=hint)
    return AnswerMetric(
        name=name,
        title=called,
        meaning=f"the recipe's own metric {name}",
        of="",
        reduction=reduction,
        statistics=_checked(name, function, reduction),
        less_is_better=bool(getattr(function, "less_is_better", False)),
        source=_source(function),
    )


def _module(place: str, base: Path, name: str) -> ModuleType:
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        path = base / place
        if not path.is_file():
            raise InputError(f"The metric {name}: there is no file {path}.", hint="Name it from the recipe's folder.")
        spec = importlib.util.spec_from_file_location(f"edgebert_metric_{hash(path)}", path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # which dataclasses look up
        spec.loader.exec_module(module)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything, or end the program
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"The metric {name}: {place} cannot be imported: {what}", hint="Install or correct it.") from error
    return module


def _source(function: Callable[..., Any]) -> str:
    """sha256 of the file that holds the function; its name where it has none."""
    try:
        file = inspect.getsourcefile(function)
    except TypeError:  # a callable of another kind
        file = None
    return hashlib.sha256(Path(file).read_bytes() if file else repr(function.__class__).encode()).hexdigest()


def _checked(name: str, function: Callable[..., Any], reduction: str) -> Callable[..., Rows]:
    def statistics(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any]) -> Rows:
        try:
            found = np.asarray(function(list(predictions), list(references), list(labels)), dtype=np.float64)
        except (Exception, SystemExit) as error:  # the user's code may raise anything, or end the program
            raise InputError(
                f"The metric {name} failed: {type(error).__name__}: {error}", hint="Correct the function."
            ) from error
        rows = found[:, None] if found.ndim == 1 else found
        if rows.ndim != 2 or len(rows) != len(references) or not REDUCTIONS[reduction].fits(rows.shape[1]):
            wanted = f"({len(references)}, {REDUCTIONS[reduction].columns})"
            raise InputError(f"The metric {name} gives statistics of shape {found.shape}.", hint=f"{reduction} takes {wanted}.")
        if not (np.abs(rows) <= LARGEST).all():
            raise InputError(f"The metric {name} gives statistics that are no finite numbers.", hint="Correct the function.")
        if REDUCTIONS[reduction].of_labels and not number_labels(rows):
            hint = f"{reduction} takes the numbers of the predicted and of the right label: whole, from 0 on."
            raise InputError(f"The metric {name} gives statistics that number no labels.", hint=hint)
        return rows

    return statistics
