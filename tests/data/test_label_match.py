"""Which outputs labels mean: decided once for a data set, and refused where two readings differ."""

from __future__ import annotations

import pytest

from edgebert.data.label_match import LabelMatch, match_labels
from edgebert.errors import DataError

NAMES = ("negative", "neutral", "positive")
STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
PLACES = ("LABEL_0", "LABEL_1", "LABEL_2")


def matched(labels: tuple[str, ...], names: tuple[str, ...], own: tuple[str, ...] = ()) -> LabelMatch:
    return match_labels(dict.fromkeys(labels, 7), names, own, subject="data.eval")


@pytest.mark.parametrize(
    ("labels", "names", "own", "indices", "by"),
    [
        (("positive", "negative"), NAMES, (), (2, 0), "name"),
        (("0", "2"), NAMES, (), (0, 2), "number"),
        (("POSITIVE", "Negative"), NAMES, (), (2, 0), "name"),
        (("negative",), (" negative", "positive "), (), (0,), "name"),
        (("True", "False"), ("True", "False"), (), (0, 1), "name"),
        (("True", "False"), ("false", "true"), (), (1, 0), "name"),
        (("True", "False"), ("bad", "good"), (), (1, 0), "number"),
        (("1", "2"), ("1", "2"), (), (0, 1), "name"),
        (("1", "2"), ("1", "2", "3"), (), (0, 1), "name"),
        (("1", "0"), ("0", "1"), (), (1, 0), "name"),
        (("1", "2"), ("1.0", "2.0"), (), (0, 1), "name"),
        (("a", "A"), ("A", "a"), (), (1, 0), "name"),
        (("0", "4"), STARS, (), (0, 4), "number"),
        (("0", "1"), ("negative", "positive"), ("positive", "negative"), (1, 0), "file"),
        (("1", "0"), ("NEGATIVE", "POSITIVE"), ("negative", "positive"), (1, 0), "file"),
        (("0", "2"), PLACES, ("bad", "fair", "good"), (0, 2), "number"),
        (("0", "1"), NAMES, ("positive", "neutral"), (2, 1), "file"),
    ],
)
def test_every_label_means_its_output(
    labels: tuple[str, ...], names: tuple[str, ...], own: tuple[str, ...], indices: tuple[int, ...], by: str
) -> None:
    match = matched(labels, names, own)
    assert tuple(match.indices[label] for label in labels) == indices
    assert match.by == by


@pytest.mark.parametrize(
    ("labels", "names", "own", "words"),
    [
        (("0", "1"), ("1", "0"), (), "a number could mean the name or the output"),
        (("0", "2"), ("0", "2", "1"), (), "a number could mean the name or the output"),
        (("1", "2", "3"), STARS, (), "a number could mean the name or the output"),
        (("0", "1"), ("LABEL_1", "LABEL_0"), (), "a number could mean the name or the output"),
        (("0", "1"), ("True", "False"), (), "a number could mean the name or the output"),
        (("positive", "1"), NAMES, (), "some labels by name and others by number: 'positive' (7 rows) and '1' (7 rows)"),
        (("positive", "meh"), NAMES, (), "the label 'meh' (7 rows) is not one of the model's: negative, neutral, positive"),
        (("0", "3"), NAMES, (), "the label '3' (7 rows) is not one of the model's"),
        (("0", "1"), ("NEGATIVE", "POSITIVE"), ("neg", "pos"), "the file calls its labels neg, pos"),
        (("0", "1"), ("0", "1"), ("pos", "neg", "neutral"), "the file calls its labels pos, neg, neutral"),
        (("0", "2"), ("pos", "neg"), ("neg", "pos"), "the label '2' (7 rows) is none of the 2 that the file names"),
        (("-1", "1"), ("pos", "neg"), ("neg", "pos"), "the label '-1' (7 rows) is none of the 2 that the file names"),
        (("good", "GOOD", "0"), ("good", "GOOD"), (), "some labels by name and others by number"),
        *(((label, "0"), NAMES, (), "is not one of the model's") for label in ("-1", "1.5", "²", "九", "9" * 5000, "01")),
    ],
)
def test_what_could_mean_two_outputs_or_none_is_refused(
    labels: tuple[str, ...], names: tuple[str, ...], own: tuple[str, ...], words: str
) -> None:
    with pytest.raises(DataError) as refused:
        matched(labels, names, own)
    assert words in refused.value.message.replace("A number", "a number") and refused.value.message.startswith("data.eval")
    assert refused.value.hint and len(refused.value.message) < 600


def test_long_lists_of_labels_are_cut_in_messages() -> None:
    with pytest.raises(DataError, match=r"class 0, class 1, .* and 988 more") as refused:
        matched(("meh",), tuple(f"class {index}" for index in range(1000)))
    assert len(refused.value.message) < 300
