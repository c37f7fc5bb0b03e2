"""A number means the same output in every data set of a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgebert.data.labels import require_one_reading
from edgebert.errors import DataError
from edgebert.tasks import get_task

STARS = ("1", "2", "3", "4", "5")
WORDS = ("negative", "positive")
CLASSES = get_task("text-classification")


def data(role: str, labels: str, own: tuple[str, ...] = ()) -> Any:
    """A data set with these labels, 7 rows of each."""
    return SimpleNamespace(role=role, labels=dict.fromkeys(labels.split(), 7), own_names=own)


@pytest.mark.parametrize(
    ("train", "evaluated", "names"),
    [
        (data("train", "0 1 2 3 4"), data("eval", "1 2 3 4"), STARS),
        (data("train", "1 2"), data("eval", "0 1 2"), STARS),
        (data("train", "0 1"), data("eval", "0 1", ("positive", "negative")), WORDS),
        (data("train", "1 0"), data("eval", "True"), ("True", "no")),
    ],
    ids=["eval by name", "train by name", "eval by the file's names", "truth"],
)
def test_sets_that_give_a_number_two_outputs_are_refused(train: Any, evaluated: Any, names: tuple[str, ...]) -> None:
    for sets in ([train, evaluated], [evaluated, train]):
        with pytest.raises(DataError) as refused:
            require_one_reading(sets, CLASSES, names)
    if names is STARS:
        message = refused.value.message
        assert "as numbers of the model's outputs" in message and "data.train" in message and "data.eval" in message


@pytest.mark.parametrize(
    ("train", "evaluated", "names"),
    [
        (data("train", "0 1 2 3 4"), data("eval", "0 4"), STARS),
        (data("train", "1 2 3 4 5"), data("eval", "1 2"), STARS),
        (data("train", "0 1"), data("eval", "negative positive"), WORDS),
        (data("train", "0 1"), data("eval", "0 1", WORDS), WORDS),
        (data("train", "0 1", ("positive", "negative")), data("eval", "positive"), WORDS),
        (data("train", "0 1"), data("calibration", "", ("positive", "negative")), WORDS),
    ],
)
def test_sets_that_agree_are_taken(train: Any, evaluated: Any, names: tuple[str, ...]) -> None:
    require_one_reading([train, evaluated], CLASSES, names)


def test_every_set_is_checked() -> None:
    with pytest.raises(DataError, match=r"^data.eval: the label 'meh'"):
        require_one_reading([data("train", "positive"), data("eval", "meh")], CLASSES, WORDS)
