"""Replacing: what a bundle changes for those who ask the model that serves, each of which the user has to name.

A request to a pair model has two texts, an answer of other labels is another answer, and a vector behind another prompt
lies elsewhere: whoever asks would have to know. What a run tunes, as thresholds, belongs to the model and may change. A bundle
that is older than the one of the same name that serves is more often a mistake than meant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Literal, get_args

from edgebert.devices.agent.protocol import Kind
from edgebert.errors import InputError

Change = Literal["task", "inputs", "labels", "options", "older"]
CHANGES: tuple[Change, ...] = get_args(Change)
SHOWN_LABELS = 5


def read_changes(words: Sequence[str]) -> frozenset[str]:
    """The changes that a user names, each a word or several with commas between.

    Raises:
        InputError: a word names none.
    """
    named = frozenset(part.strip() for word in words for part in word.split(","))
    if strange := sorted(named - set(CHANGES)):
        raise InputError(f"--replace {strange[0]!a} names no change.", hint=f"Say what may change: {', '.join(CHANGES)}.")
    return named


def check_replaces(serving: Kind, new: Kind, named: Collection[str], device: str) -> None:
    """Refuses a bundle that changes more than the user named.

    Args:
        serving: of the model that serves; all empty where none does.
        named: the changes that are meant.

    Raises:
        InputError: with every change that was not named.
    """
    found = dict(_changes(serving, new)) if serving.task else {}
    if unnamed := [word for word in found if word not in named]:
        raise InputError(
            f"{device} serves {serving.bundle}, which this bundle would change: {'; '.join(found[word] for word in unnamed)}.",
            hint=f"If that is meant: --replace {','.join(unnamed)}",
        )


def _changes(serving: Kind, new: Kind) -> Iterator[tuple[Change, str]]:
    if serving.task != new.task:
        yield "task", f"the task is {new.task} instead of {serving.task}"
    if sorted(serving.inputs) != sorted(new.inputs):
        yield "inputs", f"a request has {' and '.join(new.inputs)} instead of {' and '.join(serving.inputs)}"
    if set(serving.labels) != set(new.labels):
        yield "labels", f"the labels are {_listed(new.labels)} instead of {_listed(serving.labels)}"
    if serving.task == new.task and serving.options != new.options:
        yield "options", f"the task has other options: {', '.join(_differing(serving, new))}"
    if serving.bundle == new.bundle and serving.made is not None and (new.made is None or new.made < serving.made):
        yield "older", f"it was made {new.made or 'by an older edgebert'}, and the one that serves {serving.made}"


def _differing(serving: Kind, new: Kind) -> list[str]:
    """Names of the options that differ, sorted."""
    names = {*serving.options, *new.options}
    return sorted(name for name in names if serving.options.get(name) != new.options.get(name))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_LABELS
    return ", ".join(names[:SHOWN_LABELS]) + (f" and {more} more" if more > 0 else "")
