"""What a model that is compared takes over from the others: a graph alone says neither how it serves nor how it is asked.

A bundle says both. A model beside it is cut at the same length, padded alike and asked with the same columns; otherwise one of
the two would read other texts, and the comparison would say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgebert.core.progress import Progress
from edgebert.errors import InputError
from edgebert.measure.bench.models import BenchModel
from edgebert.measure.bench.probe_worker import Probe

APART = "Measure them apart: without --baseline, no model is compared."


def asked_like_the_bundle(models: Sequence[BenchModel], progress: Progress, *, of_data: bool = True) -> list[BenchModel]:
    """The models; those that are no bundle are asked as the bundle among them is.

    Args:
        of_data: whether texts are asked, and not only numbers of tokens.

    Raises:
        InputError: a model cannot be asked so, or there are bundles that are asked in different ways.
    """
    bundles = [model for model in models if model.checked_at]
    if not bundles or len(bundles) == len(models):
        return list(models)
    if other := next((bundle for bundle in bundles if _asked(bundle) != _asked(bundles[0])), None):
        asked, differently = (_worded(model) for model in (bundles[0], other))
        fault = f"{bundles[0].name} is asked {asked}, {other.name} {differently}: nothing can be compared with both."
        raise InputError(fault, hint="Measure one bundle at a time.")
    return [model if model.checked_at else _asked_like(bundles[0], model, progress, of_data=of_data) for model in models]


def _asked(model: BenchModel) -> tuple[Any, ...]:
    """Everything that decides what a model reads of a text."""
    return model.task, dict(model.task_options), model.columns, model.max_length, model.target.padding


def _worded(model: BenchModel) -> str:
    padded = "padded to all of them" if model.target.padding == "max_length" else "padded to the longest text"
    options = f", with {model.answered_task.options.key}" if model.task_options else ""
    return f"{' and '.join(model.columns)} of at most {model.max_length} tokens, {padded}{options}"


def _asked_like(bundle: BenchModel, model: BenchModel, progress: Progress, *, of_data: bool) -> BenchModel:
    """The model with the bundle's task and its options, columns, longest input and padding, and what it does not say itself."""
    if model.task not in (None, bundle.task):
        raise InputError(f"{model.name} is a model for {model.task}, {bundle.name} one for {bundle.task}.", hint=APART)
    if of_data and model.is_described and model.max_length < bundle.max_length:
        fault = f"{model.name} takes {model.max_length} tokens, {bundle.name} {bundle.max_length}: longer texts would differ."
        raise InputError(fault, hint=f"Ask both for numbers of tokens: --lengths {model.max_length}")
    bucket = bundle.target.length_bucket if bundle.target.runtime == model.target.runtime else None
    target = model.target.model_copy(update={"padding": bundle.target.padding, "length_bucket": bucket})
    asked = replace(
        model,
        task=bundle.task,
        task_options=bundle.task_options,
        labels=model.labels or bundle.labels,
        columns=bundle.columns,
        max_length=min(model.max_length, bundle.max_length) if model.is_described else bundle.max_length,
        tokenizer=model.tokenizer or bundle.tokenizer,
        truncation_side=model.truncation_side if model.tokenizer else bundle.truncation_side,
        tokenizer_sha256=model.tokenizer_sha256 if model.tokenizer else bundle.tokenizer_sha256,
        target=target,
    )
    if not model.is_described:
        asked = replace(asked, pad_id=bundle.pad_id, vocabulary=bundle.vocabulary)
    if asked != model:
        borrowed = "" if model.tokenizer else f", with the tokenizer of {bundle.name}"
        progress.note(f"{model.name} is asked as {bundle.name} is: {_worded(asked)}{borrowed}")
    return asked


def run_alike(
    seen: Sequence[tuple[BenchModel, Probe]], progress: Progress, *, threads: bool, batch: bool
) -> list[tuple[BenchModel, Probe]]:
    """A model without threads or batch of its own takes those of the first that has some.

    A bundle has both, a graph of a fixed batch has a batch.

    Args:
        threads: whether the number of threads is still open.
        batch: the same for the batch.
    """
    settled = {
        "threads": next((model.target.threads for model, _ in seen if threads and model.checked_at), None),
        "batch": next((model.target.batch for model, found in seen if batch and _has_batch(model, found)), None),
    }
    alike = []
    for model, found in seen:
        open_ones = {} if model.checked_at else {"threads": settled["threads"]}
        open_ones |= {} if _has_batch(model, found) else {"batch": settled["batch"]}
        changes = {name: value for name, value in open_ones.items() if value not in (None, getattr(model.target, name))}
        if changes:
            what = " and ".join(f"{name} {value}" for name, value in changes.items())
            progress.note(f"{model.name} is measured at {what}, like the model that it is compared with")
        alike.append((replace(model, target=model.target.model_copy(update=changes)), found))
    return alike


def _has_batch(model: BenchModel, found: Probe) -> bool:
    return model.checked_at is not None or found.fixed_batch is not None
