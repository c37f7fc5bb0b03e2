"""OpenedVariant: one model of a bundle, ready to answer: from texts to rows, batches, outputs and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgebert.bundle.manifest import BundleManifest, ManifestEntry
from edgebert.errors import BundleError, InputError
from edgebert.runtimes.base import Session
from edgebert.runtimes.serving import Serving
from edgebert.tasks.answers import PLAIN, Answer, Detail
from edgebert.tasks.base import Outputs, Row, Text, split_outputs

if TYPE_CHECKING:
    from tokenizers import Tokenizer

A_PAIR = "A pair is two texts, as a tuple or with a tab between them; a single sentence is one text."


@dataclass(frozen=True)
class Asked:
    """A row of the model's columns, and the number of its text among those that were given, for messages."""

    row: Row
    number: int


@dataclass(frozen=True)
class OpenedVariant:
    """One model, ready to answer. Everything about it is in one object, so that one assignment exchanges it."""

    folder: Path
    """The bundle itself, not a link to it, which may be switched."""
    manifest: BundleManifest
    preferred: str
    """Name of the variant that should answer: the device's choice in a slot, otherwise the verdict's."""
    variant: ManifestEntry
    serving: Serving
    tokenizer: Tokenizer
    session: Session

    def answer(self, asked: Sequence[Asked], batch: int, detail: Detail = PLAIN) -> list[Answer]:
        """Answers rows in batches of up to `batch`.

        Raises:
            BundleError: the model answers NaN or infinity.
        """
        rows = [item.row for item in asked]
        task, encoded = self.serving.task, self.serving.encode(self.tokenizer, rows)
        outputs: list[Outputs] = []
        for start in range(0, len(encoded), batch):
            part = encoded[start : start + batch]
            outputs += split_outputs(task, self.session.predict(self.serving.batch(part, self.variant.target)), part)
        for item, found in zip(encoded, outputs, strict=True):
            self._check_finite(found, asked[item.row].number)
        answers = task.answer(outputs, encoded, rows, self.serving.labels, detail)
        return list(task.worded(answers, self.tokenizer))

    def with_candidates(self, candidates: Sequence[str] | None) -> OpenedVariant:
        """The model with other candidate labels; None: its own.

        Raises:
            InputError: its task takes none, or these cannot be told apart.
        """
        if candidates is None:
            return self
        task = self.serving.task
        if "candidates" not in task.options_type.model_fields:
            raise InputError(f"Candidate labels are asked for, and {task.name} takes none.", hint="Leave them out.")
        if isinstance(candidates, str) or not candidates:
            raise InputError("Candidate labels are a list of one or more texts.", hint='For example: candidates=["a", "b"]')
        try:
            options = {**task.options.changed(), "candidates": list(candidates)}
            return replace(self, serving=replace(self.serving, task=task.configured(options)))
        except ValueError:
            hint = "Name each label once, as a text that is not empty."
            raise InputError(f"These candidate labels cannot be told apart: {list(candidates)!r}.", hint=hint) from None

    def with_prompt(self, prompt: str | None) -> OpenedVariant:
        """The model with another of its prompts before every text; None: its default.

        Raises:
            InputError: its task has no prompts, or none of this name.
        """
        if prompt is None:
            return self
        task = self.serving.task
        if "prompt" not in task.options_type.model_fields:
            raise InputError(f"A prompt is asked for, and {task.name} takes none.", hint="Leave it out.")
        known = task.options.changed().get("prompts") or {}
        if prompt not in known:
            hint = f"It has: {', '.join(known)}" if known else "Write it before the texts by yourself."
            raise InputError(f"This model has no prompt {prompt!r}.", hint=hint)
        options = {**task.options.changed(), "prompt": prompt}
        return replace(self, serving=replace(self.serving, task=task.configured(options)))

    def asked(self, text: Text, number: int) -> Asked:
        """A text as a row of the model's columns.

        Raises:
            InputError: it is no text, is empty, or does not have the columns that the model was made for.
        """
        parts = text if isinstance(text, tuple) else (text,)
        for part in parts:
            if not isinstance(part, str):
                raise InputError(f"Text {number} is {type(part).__name__}, not text.", hint=A_PAIR)
        if not any(part.strip() for part in parts):
            raise InputError(f"Text {number} is empty.", hint="Leave it out, or write something in it.")
        if not all(part.isascii() or _is_whole(part) for part in parts):
            raise InputError(
                f"Text {number} is not whole Unicode: it holds half of a character.", hint="Read it as UTF-8, or leave it out."
            )
        columns = self.manifest.goldens.rows[0].keys()
        row = self._row(text, number)
        free = {column.name for column in self.serving.task.columns if column.at_will}
        if row.keys() - free != columns - free:
            wanted, given = (" and ".join(sorted(names)) for names in (columns, row))
            raise InputError(f"Text {number} has {given}, but this model was made for {wanted}.", hint=A_PAIR)
        return Asked(row, number)

    def _row(self, text: Text, number: int) -> Row:
        try:
            return self.serving.task.row_of(text, self.manifest.goldens.rows[0].keys())
        except InputError as error:
            raise InputError(f"Text {number}: {error.message}", hint=error.hint) from error

    def _check_finite(self, outputs: Outputs, number: int) -> None:
        """Raises BundleError where the model answers no numbers: they would read as the first label."""
        if not all(np.isfinite(values).all() for values in outputs.values()):
            raise BundleError(
                f"{self.variant.name} in {self.folder} answers NaN or infinity to text {number}.",
                hint="Load another variant, and have this one checked: edgebert verify",
            )


def _is_whole(text: str) -> bool:
    """Whether a text is valid Unicode. A str has half of a surrogate pair where its bytes were not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
