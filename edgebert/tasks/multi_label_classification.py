"""Multi-label classification: one sentence or a pair, and each label that fits it, none or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field

from edgebert.tasks.answers import PLAIN, Answer, Detail
from edgebert.tasks.base import Array, Column, Encoded, Output, Outputs, Row
from edgebert.tasks.options import TaskOptions
from edgebert.tasks.probabilities import ranked, sigmoid
from edgebert.tasks.texts import PAIR, TEXT, TextTask
from edgebert.tasks.thresholds import best_thresholds

Threshold = Annotated[float, Field(gt=0, lt=1)]


class MultiLabelOptions(TaskOptions):
    """Which probabilities are enough."""

    thresholds: Threshold | Annotated[tuple[Threshold, ...], Field(strict=False, min_length=2)] = Field(
        0.5,
        description="Probability from which a row has a label: one number, or one for each label in the order of the model's "
        "outputs.",
    )
    tune_thresholds: bool = Field(
        True,
        description="Whether a run chooses the thresholds, unless the recipe gives others than 0.5: those with which FP32 has "
        "the best F1 of each label on data.select, else on rows held out of data.train; never on data.eval. All models of the "
        "run have them.",
    )


@dataclass(frozen=True)
class PredictedLabels(Answer):
    """The labels whose probability reaches their threshold, and the probabilities of all labels or of the first `top_k`."""

    labels: list[str] = field(hash=False)
    """The most probable first."""
    probabilities: dict[str, float] = field(default_factory=dict, hash=False)
    """Label -> probability, the most probable first."""
    logits: dict[str, float] | None = field(default=None, hash=False)
    """Label -> logit, in the model's order, where they were asked for."""

    def cells(self) -> tuple[str, ...]:
        """The labels with their probabilities; a dash where there is none."""
        named = (f"{label} {self.probabilities[label]:.4f}" for label in self.labels if label in self.probabilities)
        return (", ".join(named) or "-",)


class MultiLabelClassification(TextTask):
    """Columns `text`, optionally `text_pair`, and `labels`, a list."""

    name = "multi-label-classification"
    options_type = MultiLabelOptions
    options: MultiLabelOptions
    columns = (TEXT, PAIR, Column("labels", "labels", is_label=True, other_names=("label",)))
    optimum_task = "text-classification"
    head = "classifier"
    architecture = "ForSequenceClassification"
    problem_type = "multi_label_classification"
    outputs = (Output("logits", ("labels",), "sigmoid"),)
    prediction = "labels"

    def model_fault(self, config: Mapping[str, Any], outputs: int) -> str | None:
        """Also that the model has one output."""
        if outputs == 1:
            return "the model has one output, which is a number and no label: task: regression"
        return super().model_fault(config, outputs)

    def check_model_labels(self, labels: Sequence[str]) -> None:
        """Also raises ValueError where the thresholds are not one for each label."""
        super().check_model_labels(labels)
        given = self.options.thresholds
        if labels and isinstance(given, tuple) and len(given) != len(labels):
            raise ValueError(
                f"has {len(labels)} names, but task.thresholds {len(given)} numbers: give one number, or one a label"
            )

    @property
    def tunes(self) -> bool:
        """Whether its thresholds are chosen in a run."""
        return self.options.tune_thresholds and self.options.thresholds == 0.5

    def tuned(self, predictions: Sequence[Any], references: Sequence[Any]) -> Self:
        """The task with the thresholds that give each label its best F1 over these rows."""
        scores, right = (np.array([item["probabilities"] for item in answers]) for answers in (predictions, references))
        return self.configured({**self.options.changed(), "thresholds": best_thresholds(scores, right > 0)})

    def config_fields(self) -> Mapping[str, Any]:
        """What tells Transformers and transformers.js that the outputs are no labels that exclude each other."""
        return {"problem_type": self.problem_type}

    def decode(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Any]:
        """`labels`, those whose probability reaches their threshold, in the model's order, and `probabilities` of all."""
        return [self._prediction(sigmoid(item["logits"]), labels) for item in outputs]

    def answer(
        self,
        outputs: Sequence[Outputs],
        encoded: Sequence[Encoded],
        rows: Sequence[Row],
        labels: Sequence[str],
        detail: Detail = PLAIN,
    ) -> list[Answer]:
        """The labels that fit, and the probability of each label alone."""
        return [self._labelled(item["logits"], labels, detail) for item in outputs]

    def reference(self, row: Row, indices: Mapping[str, int], labels: Sequence[str]) -> Any:
        """The row's labels by the model's names, with a probability of 1, and 0 for the others."""
        right = {indices[label] for label in row["labels"]}
        return self._prediction(np.array([float(index in right) for index in range(len(labels))]), labels)

    def agrees(self, prediction: Any, other: Any) -> bool:
        """Whether both have the same labels, whatever their probabilities."""
        return bool(prediction["labels"] == other["labels"])

    def guesses(self, references: Sequence[Any]) -> list[Any]:
        """The commonest labels, as many as give the best F1, for every row; each label as probable as it is common."""
        counts = Counter(label for item in references for label in item["labels"])
        common = [label for label, _ in counts.most_common()]
        sizes = range(len(common) + 1)
        best = max(
            sizes, key=lambda size: sum(counts[label] for label in common[:size]) / (size * len(references) + counts.total())
        )
        shares = np.mean([item["probabilities"] for item in references], axis=0).tolist()
        return [{"labels": common[:best], "probabilities": shares}] * len(references)

    def check_rows(self, references: Sequence[Any]) -> None:
        """Raises ValueError where all rows have the same labels, so that no model is better than another."""
        first = references[0]["labels"]
        if all(item["labels"] == first for item in references):
            raise ValueError(f"has the same labels in every row: {', '.join(first) or 'none'}")

    def targets(self, encoded: Encoded, row: Row, indices: Mapping[str, int]) -> Array:
        """1 for each of the row's labels and 0 for the others, of shape (labels,); NaN where the row has no list of labels."""
        size = max(indices.values(), default=-1) + 1
        if row.get("labels") is None:
            return np.full(size, np.nan, dtype=np.float32)
        targets = np.zeros(size, dtype=np.float32)
        targets[[indices[label] for label in row["labels"]]] = 1.0
        return targets

    def loss(self, logits: Any, targets: Any, reduction: Literal["mean", "sum"] = "mean") -> Any:
        """Binary cross-entropy of each label, a scalar tensor; NaN targets do not count.

        Args:
            logits, targets: shape (batch, labels).
        """
        from torch.nn.functional import binary_cross_entropy_with_logits

        counts = ~targets.isnan()
        if not counts.any():
            return logits.sum() * 0.0
        return binary_cross_entropy_with_logits(logits.float()[counts], targets[counts], reduction=reduction)

    def imitate(self, student: Any, teacher: Any, mask: Any, temperature: float) -> Any:
        """Soft labels, each label's two outcomes alone."""
        from edgebert.tasks.soft_labels import soft_decisions

        return soft_decisions(student, teacher, temperature)

    def pseudo_targets(self, logits: Any, mask: Any) -> Any:
        """The teacher's probabilities, of shape (batch, labels)."""
        return logits.float().sigmoid()

    def _prediction(self, shares: Array, labels: Sequence[str]) -> dict[str, Any]:
        return {"labels": self._chosen(shares, labels), "probabilities": shares.tolist()}

    def _chosen(self, shares: Array, labels: Sequence[str]) -> list[str]:
        enough = shares >= np.asarray(self.options.thresholds)
        return [label for label, is_enough in zip(labels, enough.tolist(), strict=True) if is_enough]

    def _labelled(self, logits: Array, labels: Sequence[str], detail: Detail) -> PredictedLabels:
        shares = sigmoid(logits)
        named = dict(zip(labels, map(float, logits), strict=True)) if detail.logits else None
        chosen = {*self._chosen(shares, labels)}
        ordered = [label for label in ranked(labels, shares) if label in chosen]
        return PredictedLabels(ordered, ranked(labels, shares, detail.top_k), named)
