"""Fill-mask: a text with masked tokens, the tokens that stood there; the model is a masked language model.

A text with a mask of its own is asked about. In any other, as in data that train or judge, 15 % of the tokens are masked, drawn
by the text itself. They are always replaced by the mask token, unlike in BERT's training (80 % of them, Devlin et al. 2019,
arXiv 1810.04805), since that is what a model is asked when it is used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from edgebert.errors import InputError, StageError
from edgebert.tasks.answers import PLAIN, Answer, Detail
from edgebert.tasks.base import IGNORED, Array, Column, Encoded, Output, Outputs, Row, Task, Text, cut_at, without_tabs
from edgebert.tasks.masking import SPELLINGS, drawn, has_mask, mask_of, special_ids
from edgebert.tasks.probabilities import softmax

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOP = 5
"""Tokens that an answer holds for each mask unasked, as Transformers' pipeline."""
GOLDEN = 256
"""Most logits of a mask that a bundle keeps, out of tens of thousands."""
UNGUESSED = {"tokens": [-1], "right": [0], "nll": float(np.log(2**15))}
"""The guess without a model, one wrong token, as unlikely as one of 32,768 tokens drawn at random."""


@dataclass(frozen=True)
class Filling:
    """A token in the place of a mask."""

    token: int
    """Its id."""
    score: float
    """Its probability."""
    text: str = ""
    """The token as text, a space before it where it begins a word, if the tokenizer says so."""
    sequence: str = ""
    """The whole text with it; other masks stay."""
    logit: float | None = None


@dataclass(frozen=True)
class FilledText(Answer):
    """For each mask of a text, from left to right, its most probable tokens, the most probable first."""

    masks: tuple[tuple[Filling, ...], ...]
    ids: tuple[int, ...] = ()
    """Ids of the text's tokens."""
    places: tuple[int, ...] = ()
    """Index of each mask among them."""

    def cells(self) -> tuple[str, ...]:
        """The tokens of all masks with their probabilities, in one column."""
        shown = (", ".join(f"{one.text.strip() or one.token} {one.score:.4f}" for one in fillings) for fillings in self.masks)
        return ("; ".join(shown),)

    def as_json(self) -> dict[str, Any]:
        """The tokens of each mask."""
        names = ("token", "score", "text", "sequence", "logit")
        values = [[{name: getattr(one, name) for name in names} for one in fillings] for fillings in self.masks]
        return {"masks": [[{name: item[name] for name in item if item[name] is not None} for item in of] for of in values]}


class FillMask(Task):
    """Column `text`, with masks or without. There are no labels: what was masked is the right answer."""

    name = "fill-mask"
    columns = (Column("text"),)
    optimum_task = "fill-mask"
    head = "cls"
    architecture = "ForMaskedLM"
    has_labels = False
    asks_for_tokens = True
    no_new_head = "that of its pretraining is part of the model; name a folder of a masked language model"
    outputs = (Output("logits", ("masks", "vocabulary")),)
    reads = "all"
    prediction = "mask"

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row], max_length: int) -> list[Encoded]:
        """Tokenises `text`, cut to one window a row, and masks tokens where it has no mask of its own."""
        cut_at(tokenizer, max_length)
        spelling, mask = mask_of(tokenizer)
        special = special_ids(tokenizer) | {mask}
        texts = [_spelled(without_tabs(row["text"]), spelling) for row in rows]
        encoded = []
        for number, (text, item) in enumerate(zip(texts, tokenizer.encode_batch(texts), strict=True)):
            window = Encoded(
                tuple(item.ids), tuple(item.type_ids), number, tuple(item.offsets), cut=bool(item.overflowing), read=()
            )
            if has_mask(text):
                read = tuple(index for index, token in enumerate(window.ids) if token == mask)
                encoded.append(replace(window, read=read))
            else:
                encoded.append(_masked(window, drawn(text, window.ids, special), mask))
        return encoded

    def decode(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Any]:
        """For each row the most probable token of each mask, the right ones, and the sum of their negative log-likelihoods."""
        return [_prediction(output["logits"], item) for output, item in zip(outputs, encoded, strict=True)]

    def answer(
        self,
        outputs: Sequence[Outputs],
        encoded: Sequence[Encoded],
        rows: Sequence[Row],
        labels: Sequence[str],
        detail: Detail = PLAIN,
    ) -> list[Answer]:
        """The most probable tokens of each mask, as ids; `worded` gives them their texts.

        Raises:
            InputError: all masks of a text are beyond what the model reads.
        """
        for item, row in zip(encoded, rows, strict=True):
            if not item.read and has_mask(row["text"]):
                hint = "Shorten the text before the mask, or raise task.max_length in the recipe where the model allows it."
                raise InputError(f"The mask of text {item.row + 1} is beyond the {len(item)} tokens that are read.", hint=hint)
        return [
            FilledText(tuple(_fillings(logits, detail) for logits in output["logits"]), item.ids, item.read or ())
            for output, item in zip(outputs, encoded, strict=True)
        ]

    def worded(self, answers: Sequence[Answer], tokenizer: Tokenizer) -> list[Answer]:
        """The answers with their tokens as texts."""
        return [_with_texts(cast(FilledText, answer), tokenizer) for answer in answers]

    def golden_part(self, outputs: Outputs) -> Outputs:
        """Every so many logits of each mask, GOLDEN of them at most."""
        return {
            name: value[:, :: -(-value.shape[1] // GOLDEN)] if np.ndim(value) == 2 else value for name, value in outputs.items()
        }

    def reference(self, row: Row, indices: Mapping[str, int], labels: Sequence[str]) -> Any:
        """None: predictions hold what was masked."""
        return None

    def check_row(self, row: Row) -> None:
        """Raises ValueError where a text of a data set has a mask of its own."""
        if has_mask(row["text"]):
            raise ValueError("has a mask of its own in `text`, and nobody knows what stood there; give whole texts")

    def guesses(self, references: Sequence[Any]) -> list[Any]:
        """No right token."""
        return [UNGUESSED for _ in references]

    def agrees(self, prediction: Any, other: Any) -> bool:
        """Whether the tokens are the same."""
        return bool(prediction["tokens"] == other["tokens"])

    def rows_from(self, sentences: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """Each sentence, of which tokens are masked when it is read."""
        return [{"text": sentence} for sentence in sentences]

    def row_of(self, text: Text, columns: Collection[str] | None = None) -> Row:
        """A text as a row.

        Raises:
            InputError: it has no mask, or is several texts.
        """
        row = super().row_of(text, columns)
        if not has_mask(row["text"]):
            hint = f"Write {' or '.join(SPELLINGS)} where a token is to be filled in."
            raise InputError("A text without a mask is asked about.", hint=hint)
        return row

    def targets(self, encoded: Encoded, row: Row, indices: Mapping[str, int]) -> Array:
        """The ids that were masked, at their places, IGNORED elsewhere; shape (tokens,)."""
        targets = np.full(len(encoded), IGNORED, dtype=np.int64)
        if encoded.right:
            targets[list(encoded.read or ())] = encoded.right
        return targets

    def loss(self, logits: Any, targets: Any, reduction: Literal["mean", "sum"] = "mean") -> Any:
        """Cross-entropy at the masked tokens, a scalar tensor; logits of others are not copied.

        Args:
            logits: shape (batch, tokens, vocabulary).
            targets: integers of shape (batch, tokens).
        """
        counts = targets != IGNORED
        return super().loss(logits[counts], targets[counts], reduction) if counts.any() else logits.sum() * 0.0

    def imitate(self, student: Any, teacher: Any, mask: Any, temperature: float) -> Any:
        """Soft labels over all tokens of the mask, masked or not, as DistilBERT was made (Sanh et al. 2019, arXiv 1910.01108).

        Raises:
            StageError: student and teacher have vocabularies of other sizes.
        """
        if student.shape[-1] != teacher.shape[-1]:
            sizes = f"The student's vocabulary has {student.shape[-1]} tokens, the teacher's {teacher.shape[-1]}"
            hint = "Distil before the vocabulary is cut, or set soft: 0 and compare relations or hidden states alone."
            raise StageError(f"{sizes}: their outputs cannot be compared.", hint=hint)
        return super().imitate(student, teacher, mask, temperature)


def _spelled(text: str, spelling: str) -> str:
    """The text with its masks as the tokenizer spells them."""
    for other in SPELLINGS:
        text = text.replace(other, spelling)
    return text


def _masked(window: Encoded, places: tuple[int, ...], mask: int) -> Encoded:
    ids = tuple(mask if index in places else token for index, token in enumerate(window.ids))
    return replace(window, ids=ids, read=places, right=tuple(window.ids[index] for index in places))


def _prediction(logits: Array, item: Encoded) -> dict[str, Any]:
    values = np.asarray(logits, dtype=np.float64)
    tokens = [int(best) for best in values.argmax(axis=-1)] if len(values) else []
    return {"tokens": tokens, "right": list(item.right), "nll": _nll(values, item.right) if item.right else 0.0}


def _nll(logits: Array, right: Sequence[int]) -> float:
    """The sum of the negative log-likelihoods of tokens, in nats.

    Args:
        logits: shape (masks, vocabulary).
    """
    largest = logits.max(axis=-1)
    total = np.log(np.exp(logits - largest[:, None]).sum(axis=-1)) + largest
    return float((total - logits[np.arange(len(right)), list(right)]).sum())


def _fillings(logits: Array, detail: Detail) -> tuple[Filling, ...]:
    shares, order = softmax(logits), np.argsort(-logits, kind="stable")[: detail.top_k or TOP]
    return tuple(
        Filling(int(token), float(shares[token]), logit=float(logits[token]) if detail.logits else None) for token in order
    )


def _with_texts(answer: FilledText, tokenizer: Tokenizer) -> FilledText:
    def worded(place: int, one: Filling) -> Filling:
        ids = [*answer.ids[:place], one.token, *answer.ids[place + 1 :]]
        return replace(
            one, text=tokenizer.decode([one.token], skip_special_tokens=False), sequence=_read_aloud(ids, answer, tokenizer)
        )

    pairs = zip(answer.places, answer.masks, strict=True)
    return replace(answer, masks=tuple(tuple(worded(place, one) for one in fillings) for place, fillings in pairs))


def _read_aloud(ids: Sequence[int], answer: FilledText, tokenizer: Tokenizer) -> str:
    """Ids as text, without special tokens but for the masks that are left."""
    special = special_ids(tokenizer)
    kept = [token for index, token in enumerate(ids) if index in answer.places or token not in special]
    return tokenizer.decode(kept, skip_special_tokens=False)
