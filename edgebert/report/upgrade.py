"""Upgrades a report of schema version 1 or 2, which holds a label's index for each row, to statistics of the rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgebert.core.store import hash_json
from edgebert.runtimes.target import Target
from edgebert.tasks.metrics import AGREEMENT, AnswerMetric, metrics_of

MOST_LABELS = 10_000
"""More labels than any model of those versions has; a table of all numbers is made."""
KIND = "label"
"""Kind of the predictions in such reports: they are all of text classification."""


def upgraded(content: Mapping[str, Any]) -> dict[str, Any]:
    """The report's JSON as version 3 has it.

    Raises:
        ValueError: an entry has not one whole number for each reference, or something is no list where one has to be.
    """
    references, labels = _list_of(content, "references"), _list_of(content, "labels")
    entries = [dict(_object(entry)) for entry in _list_of(content, "entries")]
    answers = {index: _checked(entry, references) for index, entry in enumerate(entries)}
    for index, entry in enumerate(entries):
        predictions = answers[index]
        if predictions and references:
            theirs = answers.get(_baseline(entries, entry))
            entry["statistics"] = _statistics(predictions, references, theirs)
    report = {name: value for name, value in content.items() if name != "references"}
    named = all(0 <= index < len(labels) for index in references)
    names = [labels[index] for index in references] if named else references
    return {**report, "schema_version": 3, "entries": entries, "right_answers": hash_json(names) if references else None}


def _checked(entry: dict[str, Any], references: Sequence[Any]) -> list[int]:
    """Takes an entry's predictions out of it."""
    predictions = _list_of(entry, "predictions")
    entry.pop("predictions", None)
    if not all(type(value) is int for value in (*predictions, *references)):
        raise ValueError(f"{entry.get('name')} has predictions that are no whole numbers")
    if any(not 0 <= value < MOST_LABELS for value in (*predictions, *references)):
        raise ValueError(f"{entry.get('name')}: its statistics number a label that no model has")
    if predictions and references and len(predictions) != len(references):
        raise ValueError(f"{entry.get('name')} has {len(predictions)} predictions and there are {len(references)} references")
    return predictions


def _list_of(content: Mapping[str, Any], name: str) -> list[Any]:
    """A list of the report; empty where it is missing or null."""
    found = content.get(name)
    if not isinstance(found, list | None):
        raise ValueError(f"{name}: it is no list")
    return found or []


def _object(entry: Any) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise ValueError("entries: one of them is no object")
    return entry


def _baseline(entries: Sequence[Mapping[str, Any]], entry: Mapping[str, Any]) -> int:
    """Index of FP32 on an entry's target, by the target's name first; -1 where there is none."""
    found = [index for index, other in enumerate(entries) if other.get("role") == "baseline"]
    prefix = str(entry.get("name")).partition("/")[0]
    named = [index for index in found if str(entries[index].get("name")).partition("/")[0] == prefix]
    if named or not found:
        return next(iter(named), -1)
    target = _target(entry).for_baseline()
    return next((index for index in found if _target(entries[index]) == target), -1)


def _target(entry: Mapping[str, Any]) -> Target:
    return Target.model_validate_json(json.dumps(entry.get("target")))


def _statistics(predictions: list[int], references: Sequence[int], fp32: list[int] | None) -> dict[str, Any]:
    scored = {metric.name: _packed(metric, predictions, references) for metric in metrics_of(KIND)}
    return {**scored, **({AGREEMENT.name: _packed(AGREEMENT, predictions, fp32)} if fp32 else {})}


def _packed(metric: AnswerMetric, predictions: Sequence[int], others: Sequence[int]) -> dict[str, Any]:
    labels = range(1 + max([*predictions, *others]))  # they are numbered already
    rows = metric.statistics(predictions, others, labels)
    return {"reduction": metric.reduction, "columns": [column.tolist() for column in rows.T]}
