"""Question answering: a question and a context, the part of the context that answers it, with its characters.

The context of a row that is too long for the model is read in windows that overlap, each behind the whole question. A question
of more than a third of the longest input is cut: else little of its context would fit beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgebert.errors import InputError
from edgebert.tasks.answer_spans import END, START, AnswerOptions, AnswerSpan, FoundAnswers, find_answers, tokens_of, trimmed
from edgebert.tasks.answers import PLAIN, Answer, Detail
from edgebert.tasks.base import (
    IGNORED,
    NO_WORD,
    Array,
    Column,
    Encoded,
    Output,
    Outputs,
    Row,
    Task,
    set_truncation,
    without_tabs,
)

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

QUESTION_SHARE = 3
"""A question has one token in so many of the longest input at most; so have the tokens that two windows share."""
NO_ANSWER = ""
FOLLOWERS = 2
"""Sentences of a context that is made of plain sentences, beside the one that is asked with."""


@dataclass(frozen=True)
class Candidate:
    """An answer among others: its characters [start, end) in the context and its probability among them."""

    answer: str
    start: int
    end: int
    score: float
    logit: float | None = None
    """Sum of the logits of its start and of its end, where logits were asked for."""


@dataclass(frozen=True)
class ContextAnswer(Answer):
    """The answer to a question, with its characters [start, end) in the context; no answer is an empty text at 0."""

    answer: str
    start: int
    end: int
    score: float
    """Its probability among the best answers."""
    answers: tuple[Candidate, ...] | None = None
    """The best answers, the likeliest first, where more than one or logits were asked for."""

    def cells(self) -> tuple[str, ...]:
        """All in one column."""
        return (f"[{self.start}:{self.end}] {' '.join(self.answer.split()) or '-'} {self.score:.4f}",)


class QuestionAnswering(Task):
    """Columns `question`, `context` and `answers`. A prediction is a list of one text, a reference one of all right texts."""

    name = "question-answering"
    options_type = AnswerOptions
    columns = (Column("question"), Column("context"), Column("answers", "answers", is_label=True, other_names=("answer",)))
    optimum_task = "question-answering"
    head = "qa_outputs"
    architecture = "ForQuestionAnswering"
    usual_length = 384
    has_labels = False
    head_rows = 2
    outputs = (Output(START, ("tokens",)), Output(END, ("tokens",)))
    reads = "all"
    prediction = "answers"
    options: AnswerOptions

    def model_fault(self, config: Mapping[str, Any], outputs: int) -> str | None:
        """Also that the model has other outputs than a start and an end."""
        if outputs != self.head_rows:
            return f"the model has {outputs} outputs, and {self.name} needs two: where an answer starts and where it ends."
        return super().model_fault(config, outputs)

    def check_row(self, row: Row) -> None:
        """Raises ValueError where an answer is not in the context, or not where it says, or there is none without leave."""
        answers = row.get("answers")
        if answers is not None and not answers and not self.options.no_answer:
            raise ValueError("has no answer; where questions may have none, as in SQuAD 2.0: task.no_answer: true")
        for answer in answers or ():
            _check_place(answer, row["context"])

    def check_rows(self, references: Sequence[Any]) -> None:
        """Raises ValueError where no question has an answer."""
        if all(texts == [NO_ANSWER] for texts in references):
            raise ValueError("has no question with an answer")

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row], max_length: int) -> list[Encoded]:
        """Tokenises question and context as a pair; one or more windows of the context a row, with characters and parts.

        Raises:
            InputError: the special tokens alone are more than `max_length`.
        """
        room = max_length - tokenizer.num_special_tokens_to_add(True)
        if room < 0:
            raise InputError(f"Inputs of {max_length} tokens hold no question.", hint="Raise task.max_length.")
        most = max(0, min(max_length // QUESTION_SHARE, room - 1))
        stride = max(0, min(self.options.stride, max_length // QUESTION_SHARE, room - most - 1))
        set_truncation(tokenizer, max_length, stride=stride, strategy="only_second")
        asked = [without_tabs(row["question"]) for row in rows]
        questions = _short(tokenizer, asked, most)
        pairs = [(question, without_tabs(row["context"])) for question, row in zip(questions, rows, strict=True)]
        encoded: list[Encoded] = []
        for number, first in enumerate(tokenizer.encode_batch(pairs)):
            fitting = [window for window in (first, *first.overflowing) if len(window.ids) <= max_length]
            cut = questions[number] != asked[number] or len(fitting) <= len(first.overflowing)
            encoded += [_window(window, number, cut) for window in fitting]
        return encoded

    def decode(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Any]:
        """The text of the best answer, alone in a list; an empty one for no answer."""
        return [
            [row["context"][found.spans[0].start : found.spans[0].end]]
            for row, found in zip(rows, self._found(outputs, encoded, rows), strict=True)
        ]

    def answer(
        self,
        outputs: Sequence[Outputs],
        encoded: Sequence[Encoded],
        rows: Sequence[Row],
        labels: Sequence[str],
        detail: Detail = PLAIN,
    ) -> list[Answer]:
        """The best answer of each row; `top_k` of them where `detail` asks for more, n_best at most."""
        answers: list[Answer] = []
        for row, found in zip(rows, self._found(outputs, encoded, rows), strict=True):
            ranked = tuple(_candidates(row["context"], found, detail))
            first = ranked[0]
            more = ranked[: detail.top_k] if detail.is_asked else None
            answers.append(ContextAnswer(first.answer, first.start, first.end, first.score, more))
        return answers

    def _found(self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row]) -> list[FoundAnswers]:
        windows: list[list[tuple[Encoded, Outputs]]] = [[] for _ in rows]
        for item, found in zip(encoded, outputs, strict=True):
            windows[item.row].append((item, found))
        return [find_answers(group, row["context"], self.options) for group, row in zip(windows, rows, strict=True)]

    def reference(self, row: Row, indices: Mapping[str, int], labels: Sequence[str]) -> Any:
        """The texts of all right answers; an empty one where there is none."""
        return [answer["text"].strip() for answer in row["answers"]] or [NO_ANSWER]

    def guesses(self, references: Sequence[Any]) -> list[Any]:
        """No answer, for every row."""
        return [[NO_ANSWER]] * len(references)

    def targets(self, encoded: Encoded, row: Row, indices: Mapping[str, int]) -> Array:
        """1 at the token where the first of the right answers starts, [:, 0], and at that where it ends, [:, 1], IGNORED
        elsewhere; shape (tokens, 2). Both are the first token, [CLS], where the window does not hold the whole answer."""
        targets = np.full((len(encoded), 2), IGNORED, dtype=np.int64)
        if row.get("answers") is not None:
            first, last = _right_tokens(encoded, row) or (0, 0)
            targets[first, 0] = targets[last, 1] = 1
        return targets

    def combined(self, outputs: Mapping[str, Any]) -> Any:
        """The logits of starts and ends, of shape (batch, tokens, 2)."""
        import torch

        return torch.stack([outputs[START], outputs[END]], dim=-1)

    def loss(self, logits: Any, targets: Any, reduction: Literal["mean", "sum"] = "mean") -> Any:
        """Cross-entropy over the tokens, of starts and of ends, as Transformers computes it: padding is among the tokens.

        Args:
            logits, targets: shape (batch, tokens, 2).
        """
        from torch.nn.functional import cross_entropy

        marked = targets != IGNORED
        counts = marked.any(dim=1)
        if not counts.any():
            return logits.sum() * 0.0
        places = marked.int().argmax(dim=1)
        return cross_entropy(logits.float().transpose(1, 2)[counts], places[counts], reduction=reduction)

    def imitate(self, student: Any, teacher: Any, mask: Any, temperature: float) -> Any:
        """Soft labels over the tokens of the mask, of starts and of ends, mean over both and over the windows.

        Args:
            student, teacher: logits of shape (batch, tokens, 2).
        """
        from edgebert.tasks.soft_labels import soft_labels

        compared = mask.any(dim=1)
        if not compared.any():
            return student.sum() * 0.0
        ours, theirs = (
            logits.float()[compared].masked_fill(~mask[compared][..., None], -1e4).transpose(1, 2).flatten(0, 1)
            for logits in (student, teacher)
        )
        return soft_labels(ours, theirs, temperature)

    def pseudo_targets(self, logits: Any, mask: Any) -> Any:
        """The teacher's likeliest start and end of each window, in the form of targets."""
        import torch

        best = logits.float().masked_fill(~mask[..., None], -torch.inf).argmax(dim=1, keepdim=True)
        made = torch.full(logits.shape, IGNORED, dtype=torch.int64, device=logits.device)
        return made.scatter_(1, best, 1)

    def rows_from(self, sentences: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """Each sentence as a question, with itself and its followers as the context."""
        count = min(FOLLOWERS, len(sentences) - 1)
        around = [*sentences, *sentences[:count]]
        return [
            {"question": sentence, "context": " ".join(around[index : index + count + 1])}
            for index, sentence in enumerate(sentences)
        ]


def _check_place(answer: Mapping[str, Any], context: str) -> None:
    """Raises ValueError where the answer is not in the context, or another text is where it says."""
    text, start = answer["text"], answer["start"]
    if text not in context:
        raise ValueError(f"has the answer {text[:60]!r}, which is not in its context")
    if start >= 0 and not context.startswith(text, start):
        there = context[start : start + len(text)]
        raise ValueError(
            f"has the answer {text[:60]!r} at character {start}, where the context has {there[:60]!r}; "
            f"it is at {context.find(text)}"
        )


def _right_tokens(window: Encoded, row: Row) -> tuple[int, int] | None:
    """First and last token of the first right answer; None where there is none, or the window does not hold all of it."""
    if not row["answers"]:
        return None
    text, start = row["answers"][0]["text"], row["answers"][0]["start"]
    start = row["context"].find(text) if start < 0 else start
    return tokens_of(window, *trimmed(row["context"], start, start + len(text)))


def _short(tokenizer: Tokenizer, questions: Sequence[str], most: int) -> list[str]:
    """The questions, cut to so many tokens. Each is tokenised as the second of a pair, which the tokenizer is set to cut."""
    found = tokenizer.encode_batch([("", question) for question in questions])
    return [_cut(tokenizer, question, first, most) for question, first in zip(questions, found, strict=True)]


def _cut(tokenizer: Tokenizer, question: str, found: Encoding, most: int) -> str:
    ends = [end for (_, end), part in zip(found.offsets, found.sequence_ids, strict=True) if part == 1]
    while question and (len(ends) > most or found.overflowing):
        question = question[: min(ends[most - 1] if 0 < most <= len(ends) else 0, len(question) - 1)]
        found = tokenizer.encode("", question)
        ends = [end for (_, end), part in zip(found.offsets, found.sequence_ids, strict=True) if part == 1]
    return question


def _window(window: Encoding, row: int, cut: bool) -> Encoded:
    texts = tuple(NO_WORD if part is None else part for part in window.sequence_ids)
    return Encoded(tuple(window.ids), tuple(window.type_ids), row, tuple(window.offsets), texts=texts, cut=cut)


def _candidates(context: str, found: FoundAnswers, detail: Detail) -> list[Candidate]:
    def of(span: AnswerSpan, share: float) -> Candidate:
        return Candidate(context[span.start : span.end], span.start, span.end, share, span.logit if detail.logits else None)

    return [of(span, share) for span, share in zip(found.spans, found.shares, strict=True)]
