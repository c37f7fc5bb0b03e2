"""Unknown tokens and cut texts are counted, by every kind of tokenizer, for tasks that cut and for one that reads windows."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import make_tokenizer
from tiny_families import family_named, write_tokenizer

from edgebert.measure.text_counts import count_texts
from edgebert.report.text_counts import TextCounts
from edgebert.runtimes.serving import Serving
from edgebert.tasks import get_task


def counted(folder: Path, texts: list[str], max_length: int = 64, task: str = "text-classification") -> TextCounts:
    serving = Serving(get_task(task), ("a", "b"), max_length, 0, folder / "tokenizer.json")
    return count_texts(serving, [[{"text": text}] for text in texts])


def test_text_of_another_script_is_unknown(tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    counts = counted(tmp_path, ["good film", "漢字 好", "a good 漢"])
    assert counts == TextCounts(texts=3, cut=0, tokens=8, unknown=4)
    assert counts.unknown_share == 0.5 and "50% of the tokens" in counts.concerns()[0]
    assert counted(tmp_path, ["good film"]).concerns() == []


@pytest.mark.parametrize(("name", "unknown"), [("xlm-roberta", True), ("roberta", False)])
def test_unigram_has_unknown_tokens_and_bytes_have_none(name: str, unknown: bool, tmp_path: Path) -> None:
    write_tokenizer(family_named(name), tmp_path)
    assert (counted(tmp_path, ["漢字 漢字"]).unknown > 0) is unknown


def test_texts_are_cut_where_the_task_cuts_them(tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    texts = ["good " * 4, "good " * 6, "good " * 7]
    counts = counted(tmp_path, texts, max_length=8)
    assert (counts.cut, counts.tokens) == (1, 16)
    assert counts.concerns(8) == ["33% of the texts of data.eval are longer than task.max_length 8 tokens and were cut"]
    assert counted(tmp_path, texts, max_length=8, task="token-classification").cut == 0
