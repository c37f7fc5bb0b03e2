"""Zero-shot classification: a text and candidate labels, a score for each; the model is one of natural language inference.

Each candidate becomes a hypothesis, and the model says whether the text entails it (Yin et al. 2019, arXiv 1909.00161). Scores
are those of Transformers' zero-shot pipeline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import Field, field_validator

from edgebert.errors import InputError
from edgebert.tasks.answers import PLAIN, Answer, Detail
from edgebert.tasks.base import IGNORED, Array, Column, Encoded, Output, Outputs, Row, Task, Text, cut_at, without_tabs
from edgebert.tasks.options import TaskOptions
from edgebert.tasks.probabilities import ranked, softmax
from edgebert.tasks.text_classification import PredictedLabel

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SLOT = "{}"
"""Place of the candidate in a template."""
GOLDEN_CANDIDATES = ("travel", "cooking", "sport")
"""Candidates of a bundle's self-test, where its data name those of each row."""


class ZeroShotOptions(TaskOptions):
    """Options of zero-shot classification."""

    seen_outside: ClassVar[frozenset[str]] = frozenset({"candidates", "multi_label"})

    candidates: tuple[str, ...] = Field(
        (), description="Labels to choose from where a row, or who asks, names none. The bundle keeps them."
    )
    template: str = Field("This example is {}.", description="The hypothesis; `{}` stands for the candidate.")
    multi_label: bool = Field(
        False, description="Whether several candidates may be right: each then has a probability of its own, from 0 to 1."
    )
    entailment: int | None = Field(
        None, ge=0, description="Index of the model's output for entailment. By default the label of its config.json so named."
    )
    contradiction: int | None = Field(
        None, ge=0, description="Index of its output for contradiction. By default the label so named, else the first or last."
    )

    @field_validator("template")
    @classmethod
    def _has_a_place(cls, template: str) -> str:
        if template.count(SLOT) != 1:
            raise ValueError("needs {} once, where the candidate stands")
        return template

    @field_validator("candidates", mode="before")
    @classmethod
    def _are_different(cls, candidates: Any) -> Any:
        found = tuple(candidates) if isinstance(candidates, list) else candidates
        if isinstance(found, tuple) and (fault := candidates_fault(found)):
            raise ValueError(fault)
        return found


def candidates_fault(candidates: Sequence[Any]) -> str | None:
    """Why labels cannot be told apart, or read; None where they can."""
    if not all(isinstance(label, str) and label.strip() for label in candidates):
        return "has a candidate that is empty or no text"
    twice = next((label for label, count in Counter(candidates).items() if count > 1), None)
    return None if twice is None else f"names the candidate {twice!r} twice"


class ZeroShotClassification(Task):
    """Columns `text`, optionally `candidates`, a list of labels, and `label`, the right one of them."""

    name = "zero-shot-classification"
    options_type = ZeroShotOptions
    options: ZeroShotOptions
    columns = (
        Column("text", other_names=("sequence",)),
        Column("candidates", "texts", required=False, other_names=("candidate_labels",), at_will=True),
        Column("label", is_label=True),
    )
    optimum_task = "text-classification"
    head = "classifier"
    architecture = "ForSequenceClassification"
    no_new_head = "its model is one of natural language inference: fine-tune that as text-classification of pairs first"
    has_labels = False
    outputs = (Output("logits", ("numbers",)),)
    reads = "first"
    prediction = "candidate"

    def of_model(self, config: Mapping[str, Any]) -> Self:
        """The task with the outputs that config.json names, where the recipe names none."""
        names = _names(config)
        found = next((index for index, name in names.items() if name.startswith("entail")), None)
        entailment = found if self.options.entailment is None else self.options.entailment
        if entailment is None:
            return self
        against = next((index for index, name in names.items() if name.startswith("contradict")), None)
        usual = max(names, default=1) if entailment == 0 else 0
        contradiction = next(index for index in (self.options.contradiction, against, usual) if index is not None)
        return self.configured(self.options.model_copy(update={"entailment": entailment, "contradiction": contradiction}))

    def model_fault(self, config: Mapping[str, Any], outputs: int) -> str | None:
        """Also that none of its labels is entailment."""
        entailment = self.of_model(config).options.entailment
        if entailment is None:
            known = ", ".join(_names(config).values()) or f"{outputs} outputs without names"
            return f"none of the model's labels is `entailment` ({known}): a model of natural language inference is needed."
        if outputs < 2 or entailment >= outputs:
            return f"the model has {outputs} outputs, and its entailment would be number {entailment}, counted from 0."
        contradiction = self.of_model(config).options.contradiction
        if contradiction == entailment or (contradiction or 0) >= outputs:
            which = "that of entailment" if contradiction == entailment else f"not one of the model's {outputs} outputs"
            return f"its contradiction would be number {contradiction}, counted from 0, which is {which}: task.contradiction."
        return super().model_fault(config, outputs)

    def check_row(self, row: Row) -> None:
        """Raises ValueError where a row has no candidates, or a label that is none of them."""
        candidates = self._candidates(row)
        if not candidates:
            raise ValueError("has no candidates; name them in task.candidates, or in a column `candidates`")
        if fault := candidates_fault(candidates):
            raise ValueError(fault)
        if row.get("label") is not None and row["label"] not in candidates:
            raise ValueError(f"has the label {row['label']!r}, which is none of its candidates: {', '.join(candidates)}")

    def _candidates(self, row: Row) -> Sequence[str]:
        return row.get("candidates") or self.options.candidates

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row], max_length: int) -> list[Encoded]:
        """Tokenises the text with the hypothesis of each candidate, cut longest first; one window a candidate."""
        cut_at(tokenizer, max_length)
        asked = [(number, part) for number, row in enumerate(rows) for part in range(len(self._candidates(row)))]
        pairs = [
            (without_tabs(rows[number]["text"]), self._hypothesis(self._candidates(rows[number])[part]))
            for number, part in asked
        ]
        return [
            Encoded(tuple(item.ids), tuple(item.type_ids), number, cut=bool(item.overflowing), part=part)
            for (number, part), item in zip(asked, tokenizer.encode_batch(pairs), strict=True)
        ]

    def _hypothesis(self, candidate: str) -> str:
        return without_tabs(self.options.template.replace(SLOT, candidate))

    def decode(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Any]:
        """The candidate with the highest score."""
        logits = _of_rows(outputs, encoded, len(rows))
        return [self._candidates(row)[int(self._scores(found).argmax())] for row, found in zip(rows, logits, strict=True)]

    def answer(
        self,
        outputs: Sequence[Outputs],
        encoded: Sequence[Encoded],
        rows: Sequence[Row],
        labels: Sequence[str],
        detail: Detail = PLAIN,
    ) -> list[Answer]:
        """The best candidate of each row, and the scores of all, the highest first; logits are those of entailment."""
        logits = _of_rows(outputs, encoded, len(rows))
        return [self._labelled(self._candidates(row), found, detail) for row, found in zip(rows, logits, strict=True)]

    def _labelled(self, candidates: Sequence[str], logits: Array, detail: Detail) -> PredictedLabel:
        scores = self._scores(logits)
        best, entailed = int(scores.argmax()), logits[:, self._entailment]
        named = dict(zip(candidates, map(float, entailed), strict=True)) if detail.logits else None
        return PredictedLabel(candidates[best], float(scores[best]), ranked(candidates, scores, detail.top_k), named)

    def _scores(self, logits: Array) -> Array:
        """The score of each candidate from the logits of its window, of shape (candidates, outputs). A single candidate has no
        rival, so it is scored against its contradiction."""
        if self.options.multi_label or len(logits) == 1:
            return softmax(logits[:, [self._contradiction, self._entailment]])[:, 1]
        return softmax(logits[:, self._entailment])

    @property
    def _entailment(self) -> int:
        return self.options.entailment or 0

    @property
    def _contradiction(self) -> int:
        found = self.options.contradiction
        return found if found is not None else 0 if self._entailment else -1

    def reference(self, row: Row, indices: Mapping[str, int], labels: Sequence[str]) -> Any:
        """The row's label."""
        return row["label"]

    def guesses(self, references: Sequence[Any]) -> list[Any]:
        """The commonest label, for every row."""
        return [Counter(references).most_common(1)[0][0]] * len(references)

    def check_rows(self, references: Sequence[Any]) -> None:
        """Raises ValueError where all rows have one label."""
        if len(set(references)) < 2:
            raise ValueError(f"has the same label in every row: {references[0]}")

    def rows_from(self, sentences: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """Each sentence as a text, with candidates where the data has such."""
        own = {"candidates": GOLDEN_CANDIDATES} if "candidates" in columns else {}
        return [{"text": sentence, **own} for sentence in sentences]

    def row_of(self, text: Text, columns: Collection[str] | None = None) -> Row:
        """One line of input, `text` or `text TAB label TAB label ...`, or a tuple (text, label, ...), as a row.

        Raises:
            InputError: there are no candidates, an empty one, or one twice.
        """
        first, *candidates = text if isinstance(text, tuple) else text.split("\t")
        fault = candidates_fault(candidates) if candidates or self.options.candidates else "has no candidate labels"
        if fault:
            hint = 'Write text TAB label TAB label ..., or name them once: --candidates "a,b", in Python candidates=["a", "b"]'
            raise InputError(f"A text and candidate labels are asked for, and the text {fault}.", hint=hint)
        return {"text": first, **({"candidates": tuple(candidates)} if candidates else {})}

    def targets(self, encoded: Encoded, row: Row, indices: Mapping[str, int]) -> Array:
        """Entailment for the window of the right candidate, contradiction for the others; shape ()."""
        if row.get("label") is None:
            return np.array(IGNORED, dtype=np.int64)
        right = self._candidates(row)[encoded.part] == row["label"]
        against = self._contradiction
        return np.array(self._entailment if right else against if against >= 0 else IGNORED, dtype=np.int64)


def _names(config: Mapping[str, Any]) -> dict[int, str]:
    """Index -> name of a label in config.json, in lower case."""
    return {int(index): str(name).lower() for index, name in (config.get("id2label") or {}).items()}


def _of_rows(outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: int) -> list[Array]:
    """The logits of each row's windows, of shape (candidates, outputs)."""
    found: list[list[Array]] = [[] for _ in range(rows)]
    for item, output in zip(encoded, outputs, strict=True):
        found[item.row].append(output["logits"])
    return [np.stack(logits) for logits in found]
