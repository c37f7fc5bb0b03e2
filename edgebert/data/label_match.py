"""Which of a model's outputs each label of a data set means, decided once for the whole set: by the model's names, by the names
that the file itself gives its numbers, or by number. What could mean two things is refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgebert.errors import DataError

SHOWN_NAMES = 12
SHOWN_CHARACTERS = 60
NUMBER = re.compile(r"0|-?[1-9][0-9]{0,8}", re.ASCII)
WHOLE = re.compile(r"(0|-?[1-9][0-9]*)\.0+", re.ASCII)
WITHIN = re.compile(r"[0-9]+", re.ASCII)
TRUTH = {"false": 0, "true": 1}
NAME_THEM = "Name the labels in the order of the model's outputs: task.labels: [...]"


@dataclass(frozen=True)
class LabelMatch:
    """The outputs that a data set's labels mean."""

    indices: dict[str, int]
    """Label of the data set -> index of the model's output."""
    by: Literal["name", "file", "number"]


def plain_label(text: str) -> str:
    """A label as every format gives it: without blanks around it, `1.0` as `1`."""
    text = text.strip()
    whole = WHOLE.fullmatch(text)
    return whole.group(1) if whole else text


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first few of many, long ones cut."""
    cut = [name if len(name) <= SHOWN_CHARACTERS else f"{name[: SHOWN_CHARACTERS - 3]}..." for name in names[:SHOWN_NAMES]]
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(cut) + more


def match_labels(
    labels: Mapping[str, int], names: Sequence[str], own: Sequence[str] = (), *, subject: str, what: str = "label"
) -> LabelMatch:
    """The output that each label means.

    Args:
        labels: label of the data set, as `plain_label` has it -> number of times that it occurs.
        names: the model's labels, in the order of its outputs.
        own: names that the file gives the numbers 0, 1, ... in its label column; none where it names none.
        subject: the data set, for messages.
        what: `label` or `tag`, for messages.

    Raises:
        DataError: a label is none of the model's, or the labels could mean different outputs.
    """
    if own:
        return _by_own_names(labels, names, own, subject, what)
    if found := _by_name(labels, names):
        _require_no_other_order(names, subject, what)
        return LabelMatch(found, "name")
    numbers = {label: number_of(label) for label in labels}
    if all(number is not None and number < len(names) for number in numbers.values()):
        indices = {label: number for label, number in numbers.items() if number is not None}
        _require_one_meaning(indices, names, subject, what)
        return LabelMatch(indices, "number")
    raise _stray(labels, names, subject, what)


def number_of(label: str) -> int | None:
    """The number that a label is, `True` and `False` included; None where it is none from 0 on."""
    if label.casefold() in TRUTH:
        return TRUTH[label.casefold()]
    return int(label) if NUMBER.fullmatch(label) and not label.startswith("-") else None


def without_meaning(names: Sequence[str]) -> bool:
    """Whether the model's names only number its outputs: LABEL_0, LABEL_1, ..., or 0, 1, ..."""
    return all(name.strip() in (str(index), f"LABEL_{index}") for index, name in enumerate(names))


def _by_name(labels: Collection[str], names: Sequence[str]) -> dict[str, int] | None:
    """Each label's index by its name; None unless all are names. Case decides only where names differ in nothing else."""
    for form in (plain_label, lambda text: plain_label(text).casefold()):
        known = {form(name): index for index, name in enumerate(names)}
        if len(known) == len(names) and all(form(label) in known for label in labels):
            return {label: known[form(label)] for label in labels}
    return None


def _by_own_names(labels: Mapping[str, int], names: Sequence[str], own: Sequence[str], subject: str, what: str) -> LabelMatch:
    """The output of each number by the file's name for it, else by the number where the model's names mean nothing."""
    numbers = {label: number_of(label) for label in labels}
    for label, number in numbers.items():
        if number is None or number >= len(own):
            many = f"the {what} {label!r} ({labels[label]} {_unit(what)})"
            raise DataError(f"{subject}: {many} is none of the {len(own)} that the file names.", hint="Correct the rows.")
    texts = {label: own[number] for label, number in numbers.items() if number is not None}
    if found := _by_name(texts.values(), names):
        return LabelMatch({label: found[text] for label, text in texts.items()}, "file")
    if without_meaning(names) and len(own) <= len(names):
        return LabelMatch({label: number for label, number in numbers.items() if number is not None}, "number")
    raise DataError(
        f"{subject}: the file calls its {what}s {listed(own)}, the model {listed(names)}: which is which?",
        hint=f"{NAME_THEM}, with the file's names.",
    )


def _require_no_other_order(names: Sequence[str], subject: str, what: str) -> None:
    """Raises DataError where the model's names are the numbers of its outputs in another order."""
    plain = [plain_label(name) for name in names]
    outputs = [str(index) for index in range(len(names))]
    if plain != outputs and sorted(plain) == sorted(outputs):
        raise _two_meanings(names, subject, what)


def _require_one_meaning(indices: Mapping[str, int], names: Sequence[str], subject: str, what: str) -> None:
    """Raises DataError where the model's names hold the same numbers for other outputs, as `1 star`, `2 stars` do."""
    within = [TRUTH.get(plain_label(name).casefold(), _number_within(name)) for name in names]
    if None in within or len(set(within)) < len(within):
        return
    if all(number in within for number in indices.values()) and any(within[number] != number for number in indices.values()):
        raise _two_meanings(names, subject, what)


def _number_within(name: str) -> int | None:
    found = WITHIN.findall(name)
    return int(found[0][:9]) if len(found) == 1 else None


def _two_meanings(names: Sequence[str], subject: str, what: str) -> DataError:
    return DataError(
        f"{subject}: its {what}s are numbers, and the model's names hold other numbers than its outputs: {listed(names)}. "
        "A number could mean the name or the output.",
        hint=f"Write the {what}s as words that the model has, or give its outputs names without numbers: task.labels: [...]",
    )


def _stray(labels: Mapping[str, int], names: Sequence[str], subject: str, what: str) -> DataError:
    """The fault of a set that no reading takes whole: the first label that none takes, or two that need different readings."""
    named = [label for label in labels if _by_name([label], names)]
    numbered = [label for label in labels if (number := number_of(label)) is not None and number < len(names)]
    stray = next((label for label in labels if label not in named and label not in numbered), None)
    if stray is None:
        pair = " and ".join(f"{label!r} ({labels[label]} {_unit(what)})" for label in (named[0], numbered[0]))
        return DataError(f"{subject} writes some {what}s by name and others by number: {pair}.", hint="Write all in one way.")
    return DataError(
        f"{subject}: the {what} {stray[:SHOWN_CHARACTERS]!r} ({labels[stray]} {_unit(what)}) is not one of the model's: "
        f"{listed(names)}.",
        hint=f"Correct the rows, or {NAME_THEM[0].lower()}{NAME_THEM[1:]}",
    )


def _unit(what: str) -> str:
    return "words" if what == "tag" else "rows"
