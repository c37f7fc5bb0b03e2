"""Sets of sentences that come with edgebert: complete, natural in length, and named in a recipe."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from pathlib import Path

import pytest
from conftest import write_recipe
from pydantic import ValidationError

from edgebert.compress.recipe_file import load_recipe
from edgebert.core.files import shipped_folder
from edgebert.data.prepared import data_path, source_hash
from edgebert.data.readers import read_rows
from edgebert.data.shipped import shipped_file, shipped_sets
from edgebert.data.spec import CalibrationSpec, DataSpec

SCRIPTS = {"ar": "ARABIC", "de": "LATIN", "en": "LATIN", "es": "LATIN", "zh": "CJK"}


def test_every_set_is_there() -> None:
    assert shipped_sets() == tuple(f"sentences-{language}" for language in SCRIPTS)


@pytest.mark.parametrize("language", SCRIPTS)
def test_a_set_has_different_sentences_of_its_language(language: str) -> None:
    file = shipped_file(f"shipped://sentences-{language}")
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(set(lines)) == (256 if language == "en" else 128)
    assert all(line == line.strip() and unicodedata.is_normalized("NFC", line) and "\t" not in line for line in lines)
    letters = [letter for line in lines for letter in line if letter.isalpha()]
    assert sum(unicodedata.name(letter).startswith(SCRIPTS[language]) for letter in letters) > 0.99 * len(letters)
    assert (
        sum(line.endswith(("?", "？", "؟")) for line in lines) >= 8 and sum(any(map(str.isdigit, line)) for line in lines) >= 3
    )
    manifest = json.loads((file.parent / "manifest.json").read_text())["files"]["sentences.txt"]
    assert manifest == {"rows": len(lines), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def test_a_recipe_names_a_set(model_template: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, model_template)
    spec = load_recipe(str(recipe / "recipe.yaml"), ["data.calibration=shipped://sentences-zh"]).recipe.data.calibration
    assert isinstance(spec, CalibrationSpec) and spec.samples == 128 and spec.path == "shipped://sentences-zh"
    rows = list(read_rows(spec, data_path(spec, tmp_path)))
    assert len(rows) == 128 and rows[0]["1"] == "开往苏州的列车今天改在七站台发车。" and spec.columns == {"text": "1"}
    assert source_hash(spec, tmp_path) == source_hash(spec, tmp_path / "elsewhere")


def test_an_unknown_set_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        ValidationError, match="no set 'sentences-xx' comes with edgebert; there are sentences-ar, sentences-de"
    ):
        DataSpec.model_validate({"path": "shipped://sentences-xx"})
    with pytest.raises(ValidationError, match=r"no set '\.\./reviews-en'"):
        DataSpec.model_validate({"path": "shipped://../reviews-en"})


def test_the_sets_are_where_the_wheel_has_them() -> None:
    assert (shipped_folder("calibration") / "README.md").is_file()
