"""A column of second texts that nobody reads is named before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgebert.data.second_texts import unread_second_text
from edgebert.data.spec import DataSpec
from edgebert.errors import DataError
from edgebert.tasks import get_task

TASK = get_task("text-classification")


def told(folder: Path, header: str, **columns: str) -> str | None:
    (folder / "eval.csv").write_text(f"{header}\na,b,positive\n")
    spec = DataSpec(path="eval.csv", columns=columns)
    return unread_second_text(spec, "eval", base=folder, task=TASK)


@pytest.mark.parametrize("second", ["sentence2", "hypothesis", "question2"])
def test_a_second_text_that_is_not_read_is_named(tmp_path: Path, second: str) -> None:
    line = told(tmp_path, f"first,{second},label", text="first")
    assert line is not None and f"columns: {{text_pair: {second}}}" in line and "eval.csv" in line


def test_nothing_is_said_where_it_is_read_or_is_no_second_text(tmp_path: Path) -> None:
    assert told(tmp_path, "first,hypothesis,label", text="first", text_pair="hypothesis") is None
    assert told(tmp_path, "first,hypothesis,label", text="hypothesis") is None
    assert told(tmp_path, "first,source,label", text="first") is None


def test_a_file_of_pairs_without_our_names_says_how_both_are_named(cli: Any, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "eval.csv").write_text("premise,hypothesis,label\na,b,positive\n")
    result = cli("validate", recipe)
    assert result.code == DataError("", hint="").exit_code
    assert "columns: {text: NAME, text_pair: NAME}" in result.err
