"""drift: unlike texts are told from like ones, in length and in unknown tokens, and a run says so once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import make_tokenizer, review_rows, write_table
from hypothesis import given
from hypothesis import strategies as st
from notes import Notes
from stage_runs import make_bench
from tokenizers import Tokenizer

from edgebert.compress.compression import Compression
from edgebert.compress.recipe_file import load_recipe
from edgebert.compress.resolve import resolve_recipe
from edgebert.core.store import ArtifactStore
from edgebert.data.drift import FAR, Texts, chance, distance, drift
from edgebert.tasks.base import Encoded

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=20)


def lengths(mean: float, count: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(int(length) for length in np.random.default_rng(seed).poisson(mean, count) + 3)


@given(LENGTHS, LENGTHS)
def test_distance_is_the_largest_difference_of_the_shares_up_to_each_length(one: list[int], other: list[int]) -> None:
    def share(values: list[int], length: int) -> float:
        return sum(value <= length for value in values) / len(values)

    expected = max(abs(share(one, length) - share(other, length)) for length in range(31))
    assert distance(one, other) == pytest.approx(expected)
    assert distance(other, one) == distance(one, other)


def test_distance_exceeds_chance_in_few_of_many_samples_of_one_distribution() -> None:
    generator = np.random.default_rng(0)
    pairs = [(generator.random(60), generator.random(300)) for _ in range(2000)]
    assert sum(distance(one, other) > chance(60, 300) for one, other in pairs) <= 8  # 2 expected


def test_nothing_is_said_of_texts_that_are_alike() -> None:
    assert drift(Texts(lengths(20, 128, 1), unknown=3), Texts(lengths(20, 2000, 2), unknown=50)) is None


def test_both_medians_are_said_when_lengths_differ() -> None:
    note = drift(Texts((9,) * 100), Texts(lengths(22, 1000)))
    assert note is not None
    assert "9 tokens in the median against 25" in note and "unknown" not in note
    assert "give data.calibration rows" in note


def test_longer_texts_are_said_too_and_small_differences_are_not() -> None:
    assert drift(Texts(lengths(60, 100)), Texts(lengths(20, 1000))) is not None
    near = lengths(20, 4000), lengths(21, 4000)
    assert chance(4000, 4000) < distance(*near) < FAR
    assert drift(Texts(near[0]), Texts(near[1])) is None


def test_few_texts_prove_nothing() -> None:
    assert drift(Texts((9, 9, 9, 9)), Texts(lengths(20, 1000))) is not None
    assert drift(Texts((9, 9, 9)), Texts((20, 21, 22))) is None


def test_both_shares_are_said_when_unknown_tokens_differ() -> None:
    same = lengths(20, 100)
    tokens = sum(same)
    note = drift(Texts(same, unknown=tokens // 10), Texts(same, unknown=tokens // 100))
    assert note is not None and "10.0% unknown tokens against 1.0%" in note and "median" not in note
    assert drift(Texts(same, unknown=tokens // 100), Texts(same, unknown=tokens // 10)) is not None
    assert drift(Texts((20,) * 5, unknown=4), Texts((20,) * 5)) is None


def test_unknown_tokens_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    items = [tokenizer.encode(text) for text in ("good", "λόγος good φως")]
    encoded = [Encoded(tuple(item.ids), tuple(item.type_ids)) for item in items]
    assert Texts.of(encoded, tokenizer) == Texts(tuple(map(len, encoded)), unknown=2)


def calibration(bench: Path, store: Path, *overrides: str, times: int = 1) -> tuple[list[Encoded], list[str]]:
    """What a step that quantises the recipe's model would be given, asked for `times` times, and what was said of it."""
    file = load_recipe(str(bench / "recipe.yaml"), ["stages.quantize.method=static", *overrides])
    notes = Notes()
    run = Compression(resolve_recipe(file), ArtifactStore(store), notes)
    run.store.prepare()
    first = run.inputs.layout.steps[0]
    found = [run.calibration(first) for _ in range(times)]
    assert all(encoded == found[0] for encoded in found)
    return found[0], notes.lines


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    return make_bench(tmp_path_factory.mktemp("drift") / "bench", model_template)


@pytest.mark.parametrize(("texts", "expected"), [(["good"] * 8, 1), ([row["text"] for row in review_rows(8)], 0)])
def test_a_run_says_once_that_its_calibration_texts_are_unlike_the_eval_texts(
    texts: list[str], expected: int, bench: Path, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "calibration.csv", [{"text": text} for text in texts])
    encoded, lines = calibration(bench, tmp_path / "store", f"data.calibration.path={path}", times=2)
    assert len(encoded) == 8
    assert sum("unlike those of data.eval" in line for line in lines) == expected


def test_the_seed_decides_which_rows_calibrate_and_none_is_padded(bench: Path, tmp_path: Path) -> None:
    first, _ = calibration(bench, tmp_path / "a", "seed=1")
    assert first == calibration(bench, tmp_path / "b", "seed=1")[0] != calibration(bench, tmp_path / "a", "seed=2")[0]
    assert len({len(item) for item in first}) > 1 and all(0 not in item.ids for item in first)
