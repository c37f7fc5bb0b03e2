"""Which packages count as installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebert.core.packages import is_installed


def test_a_namespace_that_others_add_to_is_not_installed_by_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_namespace" / "commands").mkdir(parents=True)
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert not is_installed("some_namespace") and is_installed("some_package") and not is_installed("some_absent_name")
    assert is_installed("numpy") and is_installed("optimum")
