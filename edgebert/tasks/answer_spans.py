"""answer_spans: the likeliest answers of a question, as characters of its context, from the logits of all of its windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from edgebert.tasks.base import Array, Encoded
from edgebert.tasks.options import TaskOptions
from edgebert.tasks.probabilities import softmax

CONTEXT = 1
"""Number of the context among a row's texts, as `Encoded.texts` counts them."""
START, END = "start_logits", "end_logits"


class AnswerOptions(TaskOptions):
    """What answers are looked for, and how long contexts are read."""

    seen_outside: ClassVar[frozenset[str]] = frozenset({"no_answer"})

    stride: int = Field(
        128,
        ge=0,
        description="Tokens that two windows of a long context share; a third of max_length at most.",
    )
    max_answer_length: int = Field(30, ge=1, description="Longest answer in tokens.")
    n_best: int = Field(20, ge=1, le=1000, description="Likeliest starts and ends of a window that are paired.")
    no_answer: bool = Field(
        False,
        description="Whether a question may have no answer in its context, as in SQuAD 2.0.",
    )
    null_threshold: float = Field(
        0.0,
        description="With no_answer: how far the score of no answer has to exceed that of the best answer to be given. "
        "The more, the fewer questions stay without an answer.",
    )


@dataclass(frozen=True)
class AnswerSpan:
    """A part of a context that may be the answer; no answer is the span [0, 0)."""

    start: int
    end: int
    logit: float
    """Sum of the logits of its first token as a start and of its last as an end."""


NOTHING = AnswerSpan(0, 0, 0.0)


@dataclass(frozen=True)
class FoundAnswers:
    """The answers of a question, the best first."""

    spans: tuple[AnswerSpan, ...]
    """One or more; no answer is among them where the options allow it, or where the context has no token."""
    shares: tuple[float, ...]
    """Probability of each among these."""


def find_answers(windows: Sequence[tuple[Encoded, Mapping[str, Array]]], context: str, options: AnswerOptions) -> FoundAnswers:
    """The best answers over all windows of a question.

    Args:
        windows: each with its outputs, of shape (tokens,).
    """
    best: dict[tuple[int, int], float] = {}
    for window, outputs in windows:
        for span in _spans_of(window, outputs, context, options):
            place = span.start, span.end
            best[place] = max(span.logit, best.get(place, -np.inf))
    found = sorted((AnswerSpan(*place, logit) for place, logit in best.items()), key=lambda span: (-span.logit, span.start))
    ranked = _with_nothing(found[: options.n_best], windows, options)
    return FoundAnswers(tuple(ranked), tuple(softmax(np.array([span.logit for span in ranked])).tolist()))


def _with_nothing(
    found: list[AnswerSpan], windows: Sequence[tuple[Encoded, Mapping[str, Array]]], options: AnswerOptions
) -> list[AnswerSpan]:
    """Spans with no answer among them, which is first only where it leads by the threshold. Its score is the lowest that the
    first token has in any window (Devlin et al. 2019)."""
    if not options.no_answer:
        return found or [NOTHING]
    nothing = AnswerSpan(0, 0, min(float(outputs[START][0]) + float(outputs[END][0]) for _, outputs in windows))
    if not found or nothing.logit - found[0].logit > options.null_threshold:
        return [nothing, *found]
    later = next((place for place, span in enumerate(found) if span.logit < nothing.logit), len(found)) or 1
    return [*found[:later], nothing, *found[later:]]


def _spans_of(window: Encoded, outputs: Mapping[str, Array], context: str, options: AnswerOptions) -> Iterator[AnswerSpan]:
    """The best spans of one window: pairs of its likeliest starts and ends that are in order and not too long."""
    tokens = np.flatnonzero(np.array(window.texts) == CONTEXT)
    starts, ends = (_likeliest(outputs[name], tokens, options.n_best) for name in (START, END))
    logits = outputs[START].astype(np.float64)[starts][:, None] + outputs[END].astype(np.float64)[ends]
    lengths = ends[None, :] - starts[:, None] + 1
    logits[(lengths < 1) | (lengths > options.max_answer_length)] = -np.inf
    for place in np.argsort(-logits, axis=None, kind="stable")[: options.n_best].tolist():
        first, last = divmod(place, len(ends))
        start, end = trimmed(context, window.offsets[starts[first]][0], window.offsets[ends[last]][1])
        if np.isfinite(logits[first, last]) and start < end:
            yield AnswerSpan(start, end, float(logits[first, last]))


def _likeliest(logits: Array, tokens: Array, count: int) -> Array:
    """Those of the tokens that have the largest logits, the largest first."""
    order: Array = np.argsort(-logits[tokens], kind="stable")[:count]
    return np.asarray(tokens[order])


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Characters of a part of a text, without the blanks at its ends."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip()) if part.strip() else start


def tokens_of(window: Encoded, start: int, end: int) -> tuple[int, int] | None:
    """First and last token of the characters [start, end) of the context; None where they are not wholly in the window."""
    inside = [token for token, part in enumerate(window.texts) if part == CONTEXT]
    if not inside or window.offsets[inside[0]][0] > start or window.offsets[inside[-1]][1] < end:
        return None
    touched = [token for token in inside if window.offsets[token][0] < end and window.offsets[token][1] > start]
    return (touched[0], touched[-1]) if touched else None
