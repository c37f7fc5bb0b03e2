"""RowStatistics: what is written is read, in bounded memory; what is no statistics of a known reduction is refused."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from edgebert.report.packed import MOST
from edgebert.report.row_statistics import ENCODING, Numbers, RowStatistics
from edgebert.tasks.reductions import REDUCTIONS, reduce_rows

finite = st.floats(-1e15, 1e15)


@given(hnp.arrays(np.float64, st.integers(0, 200), elements=finite))
def test_numbers_come_back_from_their_packed_form_as_they_were(values: Any) -> None:
    packed = Numbers(values).packed()
    back = Numbers._validated(json.loads(json.dumps(packed)))
    assert back.values.tobytes() == values.tobytes()
    assert back == Numbers(values) == Numbers._validated(values.tolist())


@pytest.mark.parametrize("name", REDUCTIONS)
@given(data=st.data())
def test_statistics_come_back_as_they_were_written(name: str, data: st.DataObject) -> None:
    shape = (data.draw(st.integers(1, 20)), REDUCTIONS[name].columns)
    rows = data.draw(hnp.arrays(np.float64, shape, elements=st.integers(0, 76).map(float)))
    written = RowStatistics.of(name, rows)
    read = RowStatistics.model_validate_json(written.model_dump_json())
    assert read == written and (read.rows == rows).all() and read.examples == len(rows)
    assert read.value() == reduce_rows(name, rows)


def test_a_flag_an_example_packs_to_few_bytes() -> None:
    flags = np.random.default_rng(0).integers(0, 2, (5000, 1)).astype(np.float64)
    assert len(RowStatistics.of("mean", flags).model_dump_json()) < 5000


def test_statistics_cannot_be_changed() -> None:
    kept = RowStatistics.of("mean", np.ones((3, 1)))
    with pytest.raises(ValueError, match="read-only"):
        kept.columns[0].values[0] = 0.0


def test_a_caller_that_changes_its_array_changes_no_statistics() -> None:
    rows = np.ones((3, 1))
    kept = RowStatistics.of("mean", rows)
    rows[0] = 0.0
    assert kept.value() == 1.0


def test_statistics_of_no_example_have_no_value() -> None:
    assert RowStatistics.of("mean", np.empty((0, 1))).value() is None


def test_only_shares_are_of_shares() -> None:
    assert RowStatistics.of("mean", np.array([[1.0], [0.0]])).of_shares
    assert not RowStatistics.of("mean", np.array([[1.0], [0.5]])).of_shares
    assert not RowStatistics.of("ratio", np.array([[1.0, 1.0], [0.0, 1.0]])).of_shares


def packed(**changes: Any) -> dict[str, Any]:
    return {**Numbers([3.0, 5.5, 4.0]).packed(), **changes}


FORMS: list[Any] = [
    packed(count=2),
    packed(count=4),
    packed(count=-1),
    packed(count=MOST + 1),
    packed(count="3"),
    packed(count=True),
    packed(encoding="delta-shuffle-zlib"),
    packed(data="!"),
    packed(data=Numbers([3.0, 5.5, 4.0]).packed()["data"][:-8]),
    packed(data=5),
    packed(extra=1),
    {},
    [float("nan")],
    [float("inf")],
    ["1"],
    [True],
    [None],
    [[1.0]],
    7,
    None,
    "12",
]


@pytest.mark.parametrize("form", FORMS)
def test_numbers_that_are_not_what_they_say_are_refused(form: Any) -> None:
    with pytest.raises(ValidationError):
        RowStatistics(reduction="mean", columns=(form,))


def form_of(values: list[float]) -> dict[str, Any]:
    """The packed form of any numbers, NaN as well."""
    shuffled = np.array(values, "<f8").view(np.uint8).reshape(-1, 8).T.tobytes()
    return {"count": len(values), "encoding": ENCODING, "data": base64.b64encode(zlib.compress(shuffled)).decode()}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_packed_numbers_are_finite(value: float) -> None:
    assert Numbers._validated(form_of([1.0, 2.5])) == Numbers([1.0, 2.5])
    with pytest.raises(ValueError, match="finite"):
        Numbers._validated(form_of([1.0, value]))


def test_packed_numbers_never_take_more_memory_than_their_count_says() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(200_000_000), 9)).decode()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="do not hold the 3"):
            Numbers._validated(packed(data=bomb))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


STRANGE = {
    "unknown reduction": ("median", [[1.0]], "'median' is no reduction that this edgebert knows"),
    "no column": ("mean", [], "not those of mean"),
    "a column too many": ("mean", [[1.0], [1.0]], "not those of mean"),
    "a column too few": ("macro_f1", [[1.0]], "not those of macro_f1"),
    "columns of two lengths": ("ratio", [[1.0, 0.0], [1.0]], "not those of ratio"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_statistics_that_do_not_fit_their_reduction_are_refused(name: str) -> None:
    reduction, columns, message = STRANGE[name]
    with pytest.raises(ValidationError, match=message):
        RowStatistics.model_validate_json(json.dumps({"reduction": reduction, "columns": columns}))


@pytest.mark.parametrize("label", [-1.0, 0.5, 1e12])
def test_labels_that_are_no_numbers_of_labels_are_refused(label: float) -> None:
    with pytest.raises(ValidationError, match="numbers of labels"):
        RowStatistics(reduction="macro_f1", columns=([0.0, label], [0.0, 1.0]))


@pytest.mark.parametrize("value", [10**400, 1e300, float("inf"), float("nan")])
def test_a_number_that_no_statistic_has_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="finite numbers"):
        RowStatistics.model_validate({"reduction": "mean", "columns": [[value]]})
