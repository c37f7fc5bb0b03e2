"""The data sets that ship with edgebert are what their manifests say."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from conftest import REVIEWS, SENTENCES

CALIBRATION = REVIEWS.parent
KINDS = {"plain", "negation", "irony", "mixed", "implicit", "comparative"}
DOMAINS = {"products", "films", "food", "apps", "service"}


def reviews(split: str) -> list[list[str]]:
    lines = (REVIEWS / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "text\tlabel\tdomain\tkind"
    return [line.split("\t") for line in lines[1:]]


@pytest.mark.parametrize("folder", sorted(path for path in CALIBRATION.iterdir() if path.is_dir()), ids=lambda path: path.name)
def test_manifest_names_every_file_with_its_hash_and_licence(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["licence"] == "CC0-1.0"
    assert manifest["origin"]
    assert set(manifest["files"]) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        header = 1 if name.endswith(".tsv") else 0
        assert len(data.decode("utf-8").splitlines()) - header == entry["rows"]


@pytest.mark.parametrize(("split", "least"), [("train", 1200), ("dev", 200), ("eval", 300)])
def test_reviews_are_enough_and_balanced(split: str, least: int) -> None:
    rows = reviews(split)
    assert len(rows) >= least
    assert all(len(row) == 4 for row in rows)
    labels = Counter(label for _, label, _, _ in rows)
    assert set(labels) == {"positive", "negative"}
    assert abs(labels["positive"] - labels["negative"]) <= 0.02 * len(rows)
    assert {domain for _, _, domain, _ in rows} == DOMAINS
    assert {kind for _, _, _, kind in rows} == KINDS


def test_no_sentence_stands_in_two_splits() -> None:
    texts = [text.casefold() for split in ("train", "dev", "eval") for text, _, _, _ in reviews(split)]
    assert len(texts) == len(set(texts))


def test_reviews_do_not_follow_a_template() -> None:
    openings = Counter(
        " ".join(text.split()[:3]).casefold() for split in ("train", "dev", "eval") for text, *_ in reviews(split)
    )
    assert openings.most_common(1)[0][1] <= 12
    assert len(openings) > 0.8 * sum(openings.values())


def test_sentences_are_256_different_ones_of_many_lengths() -> None:
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    assert len(sentences) == len(set(sentences)) == 256
    lengths = [len(sentence.split()) for sentence in sentences]
    assert min(lengths) <= 3
    assert max(lengths) >= 60
