"""oracle_summary: the sentences of a document that a model of summaries learns to choose, from a reference summary.

One sentence after another is taken that raises the mean of ROUGE-1 and ROUGE-2 most, until none does (Nallapati et al. 2017,
arXiv 1611.04230; Liu and Lapata 2019, arXiv 1908.08345).
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence

WORD = re.compile(r"\w+")
Grams = Counter[tuple[str, ...]]


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, in small letters."""
    return tuple(WORD.findall(text.lower()))


@functools.lru_cache(maxsize=4096)
def oracle(sentences: tuple[str, ...], summary: str, most: int) -> tuple[int, ...]:
    """Indices of at most so many sentences that together come nearest to the summary, in the document's order; none where no
    sentence shares a word with it."""
    grams = [[_grams(words_of(sentence), size) for sentence in sentences] for size in (1, 2)]
    right = [_grams(words_of(summary), size) for size in (1, 2)]
    chosen: list[int] = []
    best = 0.0
    while len(chosen) < most:
        rest = [index for index in range(len(sentences)) if index not in chosen]
        values = {index: _value(grams, right, [*chosen, index]) for index in rest}
        leader = max(rest, key=lambda index: values[index], default=None)
        if leader is None or values[leader] <= best:
            break
        best = values[leader]
        chosen.append(leader)
    return tuple(sorted(chosen))


def _grams(words: Sequence[str], size: int) -> Grams:
    return Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))


def _value(grams: Sequence[Sequence[Grams]], right: Sequence[Grams], chosen: Sequence[int]) -> float:
    totals = [sum((of_size[index] for index in chosen), Counter()) for of_size in grams]
    return sum(_f1(total, wanted) for total, wanted in zip(totals, right, strict=True)) / len(right)


def _f1(found: Grams, wanted: Grams) -> float:
    both = found.total() + wanted.total()
    return 2 * (found & wanted).total() / both if both else 0.0


def has_shared_trigram(sentence: str, others: Sequence[str]) -> bool:
    """Whether three words in a row of a sentence stand in one of others (trigram blocking, Paulus et al. 2018)."""
    ours = set(_grams(words_of(sentence), 3))
    return any(ours & set(_grams(words_of(other), 3)) for other in others)
