"""The latency table: graphs that are the export's, arithmetic on tables that are known, the store, and both runtimes."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore
from edgebert.errors import StageError
from edgebert.measure.latency.latency import query_order
from edgebert.measure.machine.environment import read_environment
from edgebert.models.sizes import Shape
from edgebert.report.environment import Environment
from edgebert.runtimes import RUNTIMES, get_runtime
from edgebert.runtimes.facts import LayerEffort
from edgebert.runtimes.target import Target
from edgebert.stages.prune.latency import layer_latency
from edgebert.stages.prune.latency.latency_table import LatencyCosts, LatencyTable, interpolated
from edgebert.stages.prune.latency.layer_fit import Stack, fit, heads_grid, length_grid, neurons_grid, plan_stacks, rising
from edgebert.stages.prune.latency.layer_graphs import GraphSizes, StackSizes, build_graph, stack, write_graph
from edgebert.stages.prune.latency.layer_latency import measure_table, served_lengths
from edgebert.stages.prune.size_search import cost
from edgebert.tasks.base import Encoded, collate

TARGET = Target(runtime="onnxruntime")
SHAPE = Shape(16, 8, (2, 1), (32, 16))
"""Largest layer: 2 heads, 32 neurons."""
SMALL = Shape(16, 8, (1,), (16,))
"""Needs fewer models, which NNCF takes seconds to quantise."""

TABLE = LatencyTable(
    runtime="onnxruntime",
    precision="int8",
    threads=1,
    hidden_size=16,
    head_size=8,
    lengths=(10, 20),
    heads=(1, 2),
    neurons=(16, 32),
    attention_ms=((1.0, 2.0), (3.0, 6.0)),
    ffn_ms=((1.0, 2.0), (2.0, 4.0)),
    rest_ms=(0.5, 1.5),
    whole_ms=(5.0, 12.0),
)


# The graphs


@pytest.fixture(scope="module")
def exported(model_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """edgebert's own export of a BERT of two layers: hidden size 32, 4 heads, 64 neurons."""
    from edgebert.stages.export import export_onnx
    from edgebert.tasks import get_task

    target = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_onnx(model_template, get_task("text-classification"), target)
    return target


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A built graph of the same sizes as the exported one."""
    write_graph(stack(32, 8, StackSizes(4, 64), 2, 64), tmp_path / "built.onnx")
    return tmp_path / "built.onnx"


def operators(graph: Path) -> list[tuple[str, dict[str, Any]]]:
    """Operators with their attributes, in order."""
    import onnx

    def value(attribute: Any) -> Any:
        found = onnx.helper.get_attribute_value(attribute)
        return pytest.approx(found) if isinstance(found, float) else found

    return [(node.op_type, {item.name: value(item) for item in node.attribute}) for node in onnx.load(graph).graph.node]


def test_graph_has_the_opset_of_the_export_and_its_operators_in_its_order(exported: Path, built: Path) -> None:
    import onnx

    assert operators(built) == operators(exported)
    found, expected = onnx.load(built), onnx.load(exported)
    assert [(item.domain, item.version) for item in found.opset_import] == [
        (item.domain, item.version) for item in expected.opset_import
    ]
    assert found.ir_version == expected.ir_version


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("disabled", [[], ["SkipLayerNormFusion", "BiasGeluFusion"]], ids=["all", "tuned"])
def test_onnxruntime_fuses_the_graph_as_it_fuses_the_export(
    exported: Path, built: Path, tmp_path: Path, precision: str, disabled: list[str]
) -> None:
    import onnx
    import onnxruntime as ort

    from edgebert.stages.quantize.dynamic import Dynamic
    from edgebert.stages.quantize.settings import Settings

    def optimised(source: Path, name: str) -> Counter[str]:
        folder = tmp_path / name
        folder.mkdir()
        if precision == "int8":
            Dynamic().quantize(source, folder, Settings())
            source = folder / "model.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(folder / "optimised.onnx")
        ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled)
        return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)

    assert optimised(built, "built") == optimised(exported, "exported")


@pytest.mark.parametrize(
    "layers",
    [(), (StackSizes(3, 5),), (StackSizes(1, 7), StackSizes(2, 3)), (StackSizes(2, None),), (StackSizes(None, 4),)],
    ids=["no layer", "one", "unequal", "attention only", "FFN only"],
)
def test_graph_runs_at_any_batch_and_length(layers: tuple[StackSizes, ...], tmp_path: Path) -> None:
    write_graph(GraphSizes(12, 4, layers, 16), tmp_path / "model.onnx")
    session = get_runtime("onnxruntime").open(tmp_path / "model.onnx", TARGET)
    for rows, length in ((1, 1), (1, 16), (3, 7)):
        batch = collate([Encoded(tuple(range(length)), (0,) * length)] * rows, length=length, pad_id=0)
        logits = session.predict(batch)["logits"]
        assert logits.shape == (rows, 2) and np.isfinite(logits).all()


def test_graph_ignores_padding(tmp_path: Path) -> None:
    write_graph(stack(12, 4, StackSizes(3, 5), 2, 16), tmp_path / "model.onnx")
    session = get_runtime("onnxruntime").open(tmp_path / "model.onnx", TARGET)
    text = Encoded((5, 6, 7), (0, 0, 0))
    alone, padded = (session.predict(collate([text], length=length, pad_id=0))["logits"] for length in (3, 9))
    np.testing.assert_allclose(padded, alone, rtol=1e-4, atol=1e-5 * np.abs(alone).max())  # summed in another order


def test_graph_is_the_same_for_the_same_seed() -> None:
    sizes = stack(12, 4, StackSizes(3, 5), 1, 16)
    first, again, other = (build_graph(sizes, seed=seed).SerializeToString() for seed in (1, 1, 2))
    assert first == again != other


# Arithmetic


def test_interpolated_is_linear_inside_held_below_and_in_proportion_above() -> None:
    grid, values = (16, 32, 64), (1.0, 2.0, 6.0)
    found = [interpolated(grid, values, at) for at in (1, 16, 24, 48, 64, 96)]
    assert found == pytest.approx([1, 1, 1.5, 4, 6, 9])


@given(st.lists(st.floats(0, 10), min_size=3, max_size=3), st.integers(1, 200), st.integers(1, 200))
def test_interpolated_rising_values_never_fall(values: list[float], one: int, other: int) -> None:
    values, (small, large) = rising(values), sorted((one, other))
    assert interpolated((16, 32, 64), values, small) <= interpolated((16, 32, 64), values, large) + 1e-9


@given(st.lists(st.floats(-5, 10), min_size=1, max_size=12))
def test_rising_never_falls_and_leaves_what_is_in_order(values: list[float]) -> None:
    found = rising(values)
    assert len(found) == len(values)
    assert min(found) >= 0
    assert all(after >= before for before, after in itertools.pairwise(found))
    assert rising(found) == pytest.approx(found)
    assert rising(sorted(map(abs, values))) == pytest.approx(sorted(map(abs, values)))


def test_rising_shares_the_mean_among_neighbours_out_of_order() -> None:
    assert rising([1, 3, 2, 4]) == (1, 2.5, 2.5, 4)
    assert rising([3, 2, 1]) == (2, 2, 2)
    assert rising([-1, 1]) == (0, 1)


@pytest.mark.parametrize(
    ("lengths", "attention", "ffn", "rest"),
    [
        ([10], 2, 1.5, 0.5),
        ([15], 4, 2.25, 1),
        ([10, 20], 4, 2.25, 1),
        ([20, 20, 20, 10], 5, 2.625, 1.25),
        ([3], 2, 1.5, 0.5),
        ([40], 12, 6, 3),
    ],
)
def test_costs_are_the_mean_over_the_lengths(lengths: list[int], attention: float, ffn: float, rest: float) -> None:
    costs = LatencyCosts(TABLE, lengths)
    assert costs.attention(2) == pytest.approx(attention)
    assert costs.ffn(24) == pytest.approx(ffn)
    assert costs.rest == pytest.approx(rest)


def total(costs: LatencyCosts, shape: Shape) -> float:
    """Milliseconds of a model by the sum of its parts."""
    return costs.rest + cost(shape, costs)


def test_whole_is_what_was_timed_not_the_sum() -> None:
    costs = LatencyCosts(TABLE, [10, 20, 20, 10])
    assert costs.whole == pytest.approx(8.5) != total(costs, SHAPE)


@pytest.mark.parametrize(
    ("target", "served"),
    [
        (TARGET, [5, 9, 20, 20]),
        (Target(runtime="onnxruntime", length_bucket=64), [64] * 4),  # not 20, the longest text there is
        (Target(runtime="onnxruntime", length_bucket=48), [48] * 4),
        (Target(runtime="onnxruntime", length_bucket=300), [100] * 4),  # the longest that is served
        (Target(runtime="openvino"), [8, 16, 24, 24]),
        (Target(runtime="onnxruntime", padding="max_length"), [100] * 4),
        (Target(runtime="onnxruntime", batch=4), [20]),
        (Target(runtime="onnxruntime", batch=8), [20]),
    ],
    ids=lambda value: value.name if isinstance(value, Target) else "",
)
def test_served_lengths_are_those_that_the_target_pads_to(target: Target, served: list[int]) -> None:
    assert sorted(served_lengths([20, 5, 9, 20], target, max_length=100, seed=0)) == served


def test_served_lengths_of_a_batch_are_those_of_its_longest_text() -> None:
    lengths = list(range(1, 41))
    target = Target(runtime="onnxruntime", batch=8)
    found = served_lengths(lengths, target, max_length=64, seed=3)
    assert len(found) == 5 and found == served_lengths(lengths, target, max_length=64, seed=3)
    order = query_order(40, 40, 3)  # the order in which latency is measured
    assert found == [max(lengths[index] for index in order[start : start + 8]) for start in range(0, 40, 8)]
    assert found != served_lengths(lengths, target, max_length=64, seed=4)


@pytest.mark.parametrize("lengths", [[], [4, 0]])
def test_costs_refuse_lengths_that_are_none(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="1 token or more"):
        LatencyCosts(TABLE, lengths)


def test_costs_refuse_sizes_of_nothing() -> None:
    costs = LatencyCosts(TABLE, [10])
    for half in (costs.attention, costs.ffn):
        with pytest.raises(ValueError, match="1 or more"):
            half(0)


@pytest.mark.parametrize(
    "change",
    [
        {"lengths": (20, 10)},
        {"heads": (0, 1)},
        {"neurons": ()},
        {"attention_ms": ((1.0, 2.0),)},
        {"ffn_ms": ((1.0,), (2.0,))},
        {"rest_ms": (1.0,)},
        {"whole_ms": (1.0,)},
        {"rest_ms": (-1.0, 1.0)},
        {"rest_ms": (float("nan"), 1.0)},
        {"schema_version": 2},
        {"colour": "red"},
    ],
    ids=lambda change: str(next(iter(change))),
)
def test_table_refuses_what_does_not_fit_together(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LatencyTable.model_validate({**TABLE.model_dump(), **change})


def test_table_survives_json() -> None:
    assert LatencyTable.model_validate_json(TABLE.model_dump_json()) == TABLE


# The plan and the fit


def test_length_grid_is_quantiles() -> None:
    assert length_grid(list(range(1, 101))) == (6, 51, 95)
    assert length_grid([12] * 5) == (12,)


@pytest.mark.parametrize("most", [1, 2, 3, 12, 16])
def test_heads_grid_runs_from_one_to_all(most: int) -> None:
    assert heads_grid(most, None) == tuple(range(1, most + 1))
    thin = heads_grid(most, 6)
    assert (thin[0], thin[-1]) == (1, most) and len(thin) <= 6


@pytest.mark.parametrize("most", [1, 15, 16, 17, 24, 40, 1536, 3072])
def test_neurons_grid_ends_at_all_and_ascends(most: int) -> None:
    grid = neurons_grid(most, 8)
    assert grid[-1] == most and len(grid) <= 8
    assert list(grid) == sorted(set(grid))
    assert all(size % 16 == 0 for size in grid[:-1])


@pytest.mark.parametrize(("heads", "neurons"), [((1,), (16,)), ((1, 2), (16, 32)), (tuple(range(1, 13)), (16, 64, 384, 1536))])
def test_fit_finds_the_costs_that_made_the_latencies(heads: tuple[int, ...], neurons: tuple[int, ...]) -> None:
    def latency(item: Stack) -> float:
        attention = 0.05 + 0.02 * item.layer.heads if item.layer.heads else 0.0
        ffn = 0.03 + 0.001 * item.layer.neurons if item.layer.neurons else 0.0
        return 0.2 + item.count * (attention + ffn)

    stacks = plan_stacks(heads, neurons)
    found = fit(stacks, [latency(item) for item in stacks], heads, neurons)
    assert found.rest == pytest.approx(0.2)
    assert found.attention == pytest.approx([0.05 + 0.02 * count for count in heads])
    assert found.ffn == pytest.approx([0.03 + 0.001 * width for width in neurons])


# Measuring and the store


@pytest.fixture(scope="module")
def environment() -> Environment:
    """This machine."""
    return read_environment()


Measure = Callable[..., LatencyTable]


@pytest.fixture
def measure(store: ArtifactStore, environment: Environment, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """measure_table with little effort."""
    effort = LayerEffort(rounds=1, heads=None, widths=8, seconds=0.1)
    for runtime in RUNTIMES:
        monkeypatch.setattr(type(runtime), "layer_effort", effort)

    def call(shape: Shape = SHAPE, **changes: Any) -> LatencyTable:
        options: dict[str, Any] = {
            "target": TARGET,
            "precision": "fp32",
            "lengths": [5, 9],
            "store": store,
            "progress": Silent(),
            "environment": environment,
        }
        return measure_table(shape, **options | changes)

    return call


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Jobs that would have started a process; each answers in no time at all."""
    seen: list[Any] = []

    def run(job: Any, step: Any) -> list[tuple[int, int, int]]:
        seen.append(job)
        return [(index, length, 1_000_000 * length) for index in job.order for length in job.lengths]

    monkeypatch.setattr(layer_latency, "_run", run)
    return seen


@pytest.mark.parametrize(
    ("target", "precision", "shape"),
    [
        (TARGET, "fp32", SHAPE),
        (TARGET, "int8", SHAPE),
        (Target(runtime="onnxruntime", batch=2, disabled_optimizers=("SkipLayerNormFusion",)), "int8", SMALL),
        (Target(runtime="openvino"), "fp32", SHAPE),
        pytest.param(Target(runtime="openvino"), "int8", SMALL, marks=pytest.mark.slow),
    ],
    ids=lambda value: value.name if isinstance(value, Target) else value if isinstance(value, str) else "",
)
def test_table_is_measured_on_the_runtime(measure: Measure, target: Target, precision: str, shape: Shape) -> None:
    table = measure(shape, target=target, precision=precision)
    assert (table.runtime, table.precision, table.threads, table.batch) == (target.runtime, precision, 1, target.batch)
    assert table.disabled_optimizers == getattr(target.options, "disabled_optimizers", ())
    assert table.lengths == (5, 9)
    assert (table.heads, table.neurons) == (((1, 2), (16, 32)) if shape is SHAPE else ((1,), (16,)))
    costs = LatencyCosts(table, [5, 9])
    assert total(costs, shape) > 0 and costs.whole > 0


def test_second_call_measures_nothing(measure: Measure, rounds: list[Any]) -> None:
    first = measure()
    count = len(rounds)
    assert count == 1
    assert measure() == first
    assert measure(lengths=[9, 5]) == first
    assert len(rounds) == count


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "int8"},
        {"lengths": [5, 11]},
        {"target": Target(runtime="onnxruntime", threads=2)},
        {"target": Target(runtime="onnxruntime", batch=2)},
        {"target": Target(runtime="onnxruntime", disabled_optimizers=("BiasGeluFusion",))},
        {"remeasure": True},
    ],
    ids=str,
)
def test_what_decides_the_table_is_in_its_key(measure: Measure, rounds: list[Any], change: dict[str, Any]) -> None:
    measure()
    measure(**change)
    assert len(rounds) == 2


def test_another_machine_measures_again(measure: Measure, rounds: list[Any], environment: Environment) -> None:
    measure()
    measure(environment=environment.model_copy(update={"load_average": 7.0}))
    assert len(rounds) == 1
    measure(environment=environment.model_copy(update={"cpu": "another"}))
    assert len(rounds) == 2


def spoilt(content: str) -> dict[str, str]:
    """Damaged contents of the file."""
    newer = json.dumps({**json.loads(content), "schema_version": 2})
    return {"truncated": content[: len(content) // 2], "empty": "", "newer": newer, "not a table": "[]"}


@pytest.mark.parametrize("fault", ["truncated", "empty", "newer", "not a table", "missing"])
def test_file_that_cannot_be_read_is_measured_again(
    measure: Measure, rounds: list[Any], store: ArtifactStore, fault: str
) -> None:
    table = measure()
    file = next(store.root.rglob(layer_latency.TABLE_FILE))
    if fault == "missing":
        file.unlink()
    else:
        file.write_text(spoilt(file.read_text())[fault])
    assert measure() == table
    assert len(rounds) == 2
    assert store.verify() == []


def test_failure_of_the_process_is_reported(measure: Measure, monkeypatch: pytest.MonkeyPatch, store: ArtifactStore) -> None:
    monkeypatch.setattr(layer_latency._Measurement, "_model", lambda self, sizes, folder: folder / "absent.onnx")
    with pytest.raises(StageError, match=r"measures layers on onnxruntime ended with code 1: .*absent\.onnx"):
        measure()
    assert store.artifacts() == []


def test_no_lengths_are_refused(measure: Measure) -> None:
    with pytest.raises(ValueError, match="lengths of one or more queries"):
        measure(lengths=[])
