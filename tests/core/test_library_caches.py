"""Caches of libraries follow the store of the last run, and what the user named stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgebert.core import library_caches

NAME = "HABANA_LOGS"


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*library_caches.FOLDERS, "HF_HOME"):
        monkeypatch.setenv(variable, "x")  # restored afterwards
        monkeypatch.delenv(variable)


def test_they_follow_the_store_and_leave_what_the_user_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", "mine")
    for store in (tmp_path / "one", tmp_path / "two"):
        library_caches.keep_in(store)
        assert Path(os.environ[NAME]).is_relative_to(store)
    assert os.environ["TORCH_HOME"] == "mine"


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_store_that_cannot_be_a_folder_keeps_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    library_caches.keep_in(tmp_path / name)
    assert NAME not in os.environ
