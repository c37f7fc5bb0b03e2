"""Tokenizers that ask for more than a text can need are refused before they are built, and the usual ones are not."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tiny_families import tiny_folder

from edgebert.errors import BundleError, SourceError
from edgebert.models.families import FAMILIES
from edgebert.models.folder import inspect_model
from edgebert.models.import_model import check_tokenizer
from edgebert.models.tokenizer_limits import check_limits, growth, open_tokenizer
from edgebert.runtimes.serving import Serving
from edgebert.tasks import get_task

DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
BETWEEN = {"type": "Replace", "pattern": {"Regex": "x*"}, "content": "y"}


def chain(part: str, steps: list[Any]) -> dict[str, Any]:
    names = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "post_processor": "processors"}
    return {part: {"type": "Sequence", names[part]: steps}}


def charsmap(*texts: bytes) -> str:
    return base64.b64encode((8).to_bytes(4, "little") + bytes(8) + b"\0".join(texts)).decode()


def template(*pieces: dict[str, Any], ids: int = 1) -> dict[str, Any]:
    special = {"[X]": {"id": "[X]", "ids": [1] * ids, "tokens": ["[X]"] * ids}}
    return {"type": "TemplateProcessing", "single": [*pieces], "pair": [], "special_tokens": special}


TEXT, SPECIAL = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[X]", "type_id": 0}}
BOMBS: dict[str, tuple[dict[str, Any], str]] = {
    "normalisers that double": (chain("normalizer", [DOUBLE] * 30), "lengthen a text more than 100 times"),
    "chains in chains": (chain("normalizer", [chain("normalizer", [DOUBLE] * 5)["normalizer"]] * 3), "lengthen a text"),
    "letters between letters": (chain("normalizer", [BETWEEN] * 30), "lengthen a text"),
    "one long replacement": ({"normalizer": {**DOUBLE, "content": "a" * 1000}}, "lengthen a text"),
    "one long start": ({"normalizer": {"type": "Prepend", "prepend": "a" * 1000}}, "lengthen a text"),
    "maps of long texts": ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap(b"a" * 999)}}, "lengthen"),
    "bytes of bytes": (chain("pre_tokenizer", [{"type": "ByteLevel"}] * 8), "lengthen a text"),
    "steps without end": (chain("normalizer", [{"type": "Lowercase"}] * 10_000), "chains 10000 steps; 64 are allowed"),
    "templates that double": (chain("post_processor", [template(TEXT, TEXT)] * 20), "lengthen a text"),
    "templates of special tokens": ({"post_processor": template(TEXT, *[SPECIAL] * 1000)}, "more than 64 special tokens"),
    "names of many tokens": ({"post_processor": template(TEXT, SPECIAL, ids=10**5)}, "more than 64 special tokens"),
    "padding to all memory": ({"padding": {"strategy": {"Fixed": 10**10}}}, "pads to 10000000000 tokens"),
    "padding to multiples": ({"padding": {"strategy": "BatchLongest", "pad_to_multiple_of": 10**10}}, "pads to 10000000000"),
    "padding to multiples of 0": ({"padding": {"strategy": "BatchLongest", "pad_to_multiple_of": 0}}, "pads to 0 tokens"),
    "endless words": ({"model": {"type": "WordPiece", "max_input_chars_per_word": 10**9}}, "words of 1000000000 letters"),
}


@pytest.mark.parametrize(("changes", "message"), BOMBS.values(), ids=BOMBS)
def test_a_tokenizer_that_asks_for_too_much_is_refused(changes: dict[str, Any], message: str, model_dir: Path) -> None:
    file = model_dir / "tokenizer.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **changes, "model": {**content["model"], **changes.get("model", {})}}))
    with pytest.raises(SourceError, match=message):
        check_tokenizer(file, inspect_model(model_dir))


@pytest.mark.parametrize(
    ("step", "times"),
    [
        ({"type": "NFKC"}, 1),
        ({"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}, 1),
        ({"type": "Replace", "pattern": {"String": "``"}, "content": '"'}, 1),
        ({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}, 1),
        ({"type": "Prepend", "prepend": "\u2581"}, 1),
        ({"type": "ByteLevel"}, 4),
        ({"type": "Precompiled", "precompiled_charsmap": charsmap(b"a", "\u0635\u0644\u0649 ".encode())}, 4),
        (template(SPECIAL, TEXT, SPECIAL), 1),
    ],
)
def test_the_growth_of_usual_steps_is_known(step: dict[str, Any], times: float) -> None:
    assert growth(step) == times
    check_limits({"normalizer": step})


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_usual_tokenizers_are_within_the_limits(family: Any, tmp_path: Path) -> None:
    folder = tiny_folder(family.model_type, "ForSequenceClassification", tmp_path)
    assert open_tokenizer(folder / "tokenizer.json").encode("a good film").ids


@pytest.mark.parametrize("pattern", ["(", "[a", "(?<n>a)\\k<m>", "a{99999999}"])
def test_a_bad_regular_expression_prints_no_backtrace(pattern: str, model_dir: Path, capfd: Any) -> None:
    file = model_dir / "tokenizer.json"
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    file.write_text(json.dumps({**json.loads(file.read_text()), "pre_tokenizer": split}))
    with pytest.raises(SourceError, match=r"The tokenizer in .* cannot be read: .*\w"):
        check_tokenizer(file, inspect_model(model_dir))
    assert capfd.readouterr() == ("", "")
    with pytest.raises(BundleError, match="is not a tokenizer"):
        Serving(get_task("text-classification"), ("a", "b"), 16, 0, file).open_tokenizer()
