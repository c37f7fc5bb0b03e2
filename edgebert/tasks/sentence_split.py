"""sentence_split: a text cut into sentences, by their closing signs; with the characters of each."""

from __future__ import annotations

import re

from edgebert.tasks.words import Span

END = re.compile(r"""(?<![.!?])[.!?]+["'”’)\]]{0,4}(?=\s)|[。！？]+[”’」』）]{0,4}|(?<!\s)\s+""")
"""What may end a sentence: closing signs before a blank, those of Chinese and Japanese, blanks with an empty line. Each
run of signs is looked at once, so that the time grows with the length alone."""
NEXT = re.compile(r"""\s+["'“‘(\[]{0,4}[^\sa-z]""")
"""What follows closing signs that end a sentence: no small letter."""
CLOSING = ".!?:;"
SHORT = re.compile(
    r"(?:^|[\s(\"'“‘])(?:[A-Z]|(?:[A-Za-z]\.)+[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|No|vs|etc|cf|al|Inc|Ltd|Co|Fig|Gen|Rev|Sen|Gov)\.$"
)
"""Shortened words and initials, whose full stop ends no sentence."""


def sentence_spans(text: str) -> list[Span]:
    """Characters [start, end) of each sentence, without the blanks around; none in a text of blanks."""
    spans: list[Span] = []
    start = 0
    for found in END.finditer(text):
        if _ends(text, start, found):
            spans.append((start, found.end()))
            start = found.end()
    spans.append((start, len(text)))
    return [(first, last) for first, last in (_bare(text, *span) for span in spans) if first < last]


def _ends(text: str, start: int, found: re.Match[str]) -> bool:
    """Whether a match of END ends the sentence that begins at `start`."""
    if found[0].isspace():
        lines = found[0].count("\n")
        return lines > 1 or (lines == 1 and text[max(0, found.start() - 1)] in CLOSING)
    if found[0][0] not in CLOSING:
        return True
    is_short = found[0] == "." and SHORT.search(text[max(start, found.end() - 12) : found.end()])
    return NEXT.match(text, found.end()) is not None and not is_short


def _bare(text: str, start: int, end: int) -> Span:
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())
