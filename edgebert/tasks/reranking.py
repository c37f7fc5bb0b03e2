"""Reranking: a query and passages, the passages in order of their relevance; the model is a cross-encoder with one output.

Query and passage are read together (Nogueira and Cho 2019, arXiv 1901.04085), one window for each passage.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from edgebert.errors import InputError
from edgebert.tasks.answers import PLAIN, Answer, Detail
from edgebert.tasks.base import Array, Column, Encoded, Output, Outputs, Row, Task, Text, cut_at, without_tabs
from edgebert.tasks.options import TaskOptions

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Activation = Literal["sigmoid", "identity"]
MODULES: Mapping[Activation, str] = {
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
    "identity": "torch.nn.modules.linear.Identity",
}
"""Activation -> its class, as sentence-transformers names it in config.json."""
WRITTEN_AS = "4.0.0"
"""The first version of sentence-transformers that reads the activation where it is written here."""


class RerankingOptions(TaskOptions):
    """Options of reranking."""

    seen_outside: ClassVar[frozenset[str]] = frozenset({"activation"})

    activation: Activation | None = Field(
        None,
        description="How a model's output becomes a score that people read: `sigmoid`, from 0 to 1, or `identity`. By default "
        "what its config.json says to sentence-transformers, else `sigmoid`. The order is the same.",
    )


@dataclass(frozen=True)
class RankedPassage:
    """A passage: its index among those of the query, from 0, its score, its text."""

    index: int
    score: float
    text: str


@dataclass(frozen=True)
class Ranking(Answer):
    """The passages of a query, the most relevant first, or the first `top_k` of them."""

    passages: tuple[RankedPassage, ...]
    logits: tuple[float, ...] | None = field(default=None, hash=False)
    """The model's output for each passage, in the order in which they were given, where it was asked for."""

    def cells(self) -> tuple[str, ...]:
        """The indices of the passages with their scores, in one column."""
        return (" ".join(f"{item.index}:{item.score:.4f}" for item in self.passages),)


class Reranking(Task):
    """Columns `query`, `passages`, a list of texts, and `relevance`, a number for each passage, or `relevant`, indices."""

    name = "reranking"
    options_type = RerankingOptions
    options: RerankingOptions
    columns = (
        Column("query", other_names=("question",)),
        Column("passages", "texts", other_names=("documents", "candidates")),
        Column("relevance", "numbers", is_label=True, other_names=("grades", "labels"), or_else="relevant"),
        Column("relevant", "numbers", required=False, is_label=True),
    )
    optimum_task = "text-classification"
    head = "classifier"
    architecture = "ForSequenceClassification"
    has_labels = False
    head_rows = 1
    outputs = (Output("logits", ("numbers",), "numbers"),)
    reads = "first"
    prediction = "ranking"

    def model_fault(self, config: Mapping[str, Any], outputs: int) -> str | None:
        """Also that the model has several outputs."""
        if outputs != 1:
            return f"the model has {outputs} outputs, and a reranker has one, the score of a passage."
        return super().model_fault(config, outputs)

    def of_model(self, config: Mapping[str, Any]) -> Self:
        """The task with the activation that the model's config.json names, where the recipe names none."""
        if self.options.activation is not None:
            return self
        named = config.get("sentence_transformers")
        path = named.get("activation_fn") if isinstance(named, dict) else config.get("sbert_ce_default_activation_function")
        return self.configured({"activation": "identity" if str(path).endswith("Identity") else "sigmoid"})

    def config_fields(self) -> Mapping[str, Any]:
        """What tells sentence-transformers' CrossEncoder how scores are read."""
        written = {"activation_fn": MODULES[self.options.activation or "sigmoid"], "version": WRITTEN_AS}
        return {"sentence_transformers": written}

    def check_row(self, row: Row) -> None:
        """Raises ValueError where the right answers do not fit the passages."""
        relevance, relevant, count = row.get("relevance"), row.get("relevant"), len(row["passages"])
        if relevance is not None and relevant is not None:
            raise ValueError("has `relevance` and `relevant`; one of them says which passages are right")
        if relevance is not None and len(relevance) != count:
            raise ValueError(f"has {count} passages and {len(relevance)} numbers in `relevance`; every passage needs one")
        if relevance is not None and min(relevance) < 0:
            raise ValueError(f"has the relevance {min(relevance):g}; 0 is not relevant, more is more relevant")
        strange = next((item for item in relevant or () if item not in range(count)), None)
        if strange is not None:
            raise ValueError(f"has {strange:g} in `relevant`, which is no index of its {count} passages, counted from 0")

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row], max_length: int) -> list[Encoded]:
        """Tokenises the query with each passage, cut longest first; one window a passage."""
        cut_at(tokenizer, max_length)
        pairs = [(row, number, part) for number, row in enumerate(rows) for part in range(len(row["passages"]))]
        texts = [(without_tabs(row["query"]), without_tabs(row["passages"][part])) for row, _, part in pairs]
        return [
            Encoded(tuple(item.ids), tuple(item.type_ids), number, cut=bool(item.overflowing), part=part)
            for (_, number, part), item in zip(pairs, tokenizer.encode_batch(texts), strict=True)
        ]

    def decode(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Any]:
        """The model's output for each passage, as floats: by them passages are ordered."""
        found: list[list[float]] = [[] for _ in rows]
        for item, output in zip(encoded, outputs, strict=True):
            found[item.row].append(float(output["logits"][0]))
        return found

    def answer(
        self,
        outputs: Sequence[Outputs],
        encoded: Sequence[Encoded],
        rows: Sequence[Row],
        labels: Sequence[str],
        detail: Detail = PLAIN,
    ) -> list[Answer]:
        """The passages of each row in order, with their scores."""
        decoded = self.decode(outputs, encoded, rows, labels)
        return [self._ranking(row["passages"], logits, detail) for row, logits in zip(rows, decoded, strict=True)]

    def _ranking(self, passages: Sequence[str], logits: Sequence[float], detail: Detail) -> Ranking:
        order = _order(logits)[: detail.top_k]
        values = np.asarray(logits)
        scores = values if self.options.activation == "identity" else (1 + np.tanh(values / 2)) / 2  # the sigmoid
        ranked = tuple(RankedPassage(index, float(scores[index]), passages[index]) for index in order)
        return Ranking(ranked, tuple(logits) if detail.logits else None)

    def reference(self, row: Row, indices: Mapping[str, int], labels: Sequence[str]) -> Any:
        """The relevance of each passage, as floats."""
        return _relevance(row)

    def agrees(self, prediction: Any, other: Any) -> bool:
        """Whether the passages are in the same order."""
        return _order(prediction) == _order(other)

    def guesses(self, references: Sequence[Any]) -> list[Any]:
        """An order that is the same for every query with so many passages, drawn once."""
        return [np.random.default_rng(len(grades)).random(len(grades)).tolist() for grades in references]

    def check_rows(self, references: Sequence[Any]) -> None:
        """Raises ValueError where no query has passages of different relevance, so that no order is right or wrong."""
        if all(len(set(grades)) < 2 for grades in references):
            raise ValueError("has no query with both a relevant and another passage")

    def rows_from(self, sentences: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """Each sentence as a query, with the two that follow it, where there are as many, as passages."""
        count = len(sentences)
        following = [[sentences[(at + step) % count] for step in range(1, min(3, count))] for at in range(count)]
        return [{"query": text, "passages": tuple(after or [text])} for text, after in zip(sentences, following, strict=True)]

    def row_of(self, text: Text, columns: Collection[str] | None = None) -> Row:
        """One line of input, `query TAB passage TAB passage ...`, or a tuple (query, passage, ...), as a row.

        Raises:
            InputError: it has no passage, or one that is empty.
        """
        query, *passages = text if isinstance(text, tuple) else text.split("\t")
        if not passages or not all(part.strip() for part in (query, *passages)):
            found = "no passage" if not passages else "an empty part"
            hint = "Write query TAB passage TAB passage ..., in Python a tuple: (query, passage, ...)"
            raise InputError(f"A query and its passages are asked for, and the text has {found}.", hint=hint)
        return {"query": query, "passages": tuple(passages)}

    def targets(self, encoded: Encoded, row: Row, indices: Mapping[str, int]) -> Array:
        """The relevance of the window's passage, at most 1, of shape (1,); NaN where it has none."""
        known = row.get("relevance") is not None or row.get("relevant") is not None
        return np.array([min(1.0, _relevance(row)[encoded.part]) if known else np.nan], dtype=np.float32)

    def loss(self, logits: Any, targets: Any, reduction: Literal["mean", "sum"] = "mean") -> Any:
        """Binary cross-entropy, a scalar tensor; NaN targets do not count.

        Args:
            logits, targets: shape (batch, 1).
        """
        from torch.nn.functional import binary_cross_entropy_with_logits

        counts = ~targets.isnan()
        if not counts.any():
            return logits.sum() * 0.0
        return binary_cross_entropy_with_logits(logits.float()[counts], targets[counts], reduction=reduction)

    def imitate(self, student: Any, teacher: Any, mask: Any, temperature: float) -> Any:
        """Mean squared difference from the teacher's outputs, of shape (batch, 1): where it is 0, the margins between passages
        are the teacher's as well (margins: Hofstätter et al. 2020, arXiv 2010.02666). There is nothing to soften."""
        from torch.nn.functional import mse_loss

        return mse_loss(student.float(), teacher.float())

    def pseudo_targets(self, logits: Any, mask: Any) -> Any:
        """The teacher's outputs as probabilities of being relevant, of shape (batch, 1)."""
        return logits.float().sigmoid()


def _relevance(row: Row) -> list[float]:
    if row.get("relevance") is not None:
        return [float(grade) for grade in row["relevance"]]
    relevant = {int(index) for index in row["relevant"]}
    return [float(index in relevant) for index in range(len(row["passages"]))]


def _order(scores: Sequence[float]) -> list[int]:
    """Indices, the highest score first; of equal ones, the first."""
    return [int(index) for index in np.argsort(-np.asarray(scores), kind="stable")]
