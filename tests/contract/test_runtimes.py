"""The contract of every runtime: torch's numbers at any shape, unknown inputs ignored, errors that a user can act on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from copied_runtime import Copied
from fake_session import Fake

from edgebert.errors import EdgebertError, MissingPackage
from edgebert.runtimes import RUNTIMES, get_runtime
from edgebert.runtimes.base import Runtime, Session
from edgebert.runtimes.target import Target
from edgebert.runtimes.torch import Torch
from edgebert.tasks.base import Batch, Encoded, collate

TARGET = Target(runtime="onnxruntime", threads=1)  # a session reads the threads and nothing else
REAL: tuple[Runtime, ...] = (*RUNTIMES, Torch(), Copied())
EVERY: tuple[Runtime, ...] = (*REAL, Fake())
VOCABULARY = 60

every_runtime = pytest.mark.parametrize("runtime", EVERY, ids=lambda runtime: runtime.name)
real_runtime = pytest.mark.parametrize("runtime", REAL, ids=lambda runtime: runtime.name)


@pytest.fixture(scope="module")
def models(finished: Path, model_template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The FP32 model of each runtime. Do not write into them."""
    bundle = finished / "runs" / "recipe" / "bundle"
    copied = tmp_path_factory.mktemp("copied")
    Copied().convert(bundle / "onnx" / "model.onnx", copied)
    return {
        "torch": model_template,
        "onnxruntime": bundle / "onnx" / "model.onnx",
        "openvino": bundle / "openvino" / "openvino_model.xml",
        "copied": copied / Copied.model_file,
        "fake": bundle,
    }


@pytest.fixture(scope="module")
def sessions(models: dict[str, Path]) -> dict[str, Session]:
    """An open session of each runtime."""
    return {runtime.name: runtime.open(models[runtime.name], TARGET) for runtime in EVERY}


def batch_of(lengths: Sequence[int], padded: int, seed: int = 0) -> Batch:
    """Random tokens of the given lengths, the second half of each in the second segment, padded."""
    generator = np.random.default_rng(seed)
    encoded = [
        Encoded(
            tuple(int(token) for token in generator.integers(5, VOCABULARY, length)),
            tuple(int(index >= length / 2) for index in range(length)),
        )
        for length in lengths
    ]
    return collate(encoded, length=padded, pad_id=0)


SHAPES = [([5], 5), ([1], 8), ([64], 64), ([3, 9], 9), ([1, 2, 30, 17], 40), ([7] * 9, 7), ([2], 64)]


@every_runtime
def test_name_and_format_of_a_runtime_are_its_own(runtime: Runtime) -> None:
    assert [other.name for other in EVERY].count(runtime.name) == 1
    assert [other.format for other in EVERY].count(runtime.format) == 1
    assert runtime.available()
    if runtime in RUNTIMES:
        assert get_runtime(runtime.name) is runtime


@real_runtime
@pytest.mark.parametrize(("lengths", "padded"), SHAPES)
def test_predict_gives_torchs_logits_at_every_shape(
    sessions: dict[str, Session], runtime: Runtime, lengths: list[int], padded: int
) -> None:
    batch = batch_of(lengths, padded)
    expected = sessions["torch"].predict(batch)["logits"]
    found = sessions[runtime.name].predict(batch)["logits"]
    assert found.shape == (len(lengths), 2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


@every_runtime
def test_predict_gives_different_answers_to_different_texts(sessions: dict[str, Session], runtime: Runtime) -> None:
    logits = sessions[runtime.name].predict(batch_of([12] * 8, 12))["logits"]
    assert np.abs(logits - logits[0]).max(axis=1)[1:].min() > 1e-3


@every_runtime
def test_predict_answers_each_example_as_if_it_were_alone_and_unpadded(sessions: dict[str, Session], runtime: Runtime) -> None:
    session, lengths = sessions[runtime.name], [4, 11, 23]
    together = session.predict(batch_of(lengths, 32))["logits"]
    batch = batch_of(lengths, 32)
    for index, length in enumerate(lengths):
        alone = session.predict({name: value[index : index + 1, :length] for name, value in batch.items()})
        np.testing.assert_allclose(together[index], alone["logits"][0], atol=1e-4, rtol=0)


@every_runtime
def test_predict_ignores_inputs_that_the_graph_lacks(sessions: dict[str, Session], runtime: Runtime) -> None:
    batch = batch_of([6, 3], 6)
    more = {**batch, "unheard_of": np.ones((2, 6), np.int64)}
    expected, found = sessions[runtime.name].predict(batch), sessions[runtime.name].predict(more)
    np.testing.assert_array_equal(found["logits"], expected["logits"])


@every_runtime
def test_predict_leaves_its_inputs_and_earlier_outputs_as_they_were(sessions: dict[str, Session], runtime: Runtime) -> None:
    batch = batch_of([6, 3], 6)
    before = {name: value.copy() for name, value in batch.items()}
    first = sessions[runtime.name].predict(batch)["logits"]
    kept = first.copy()
    sessions[runtime.name].predict(batch_of([6, 3], 6, seed=1))
    np.testing.assert_array_equal(first, kept)
    assert all(np.array_equal(batch[name], before[name]) for name in before)


@every_runtime
def test_predict_works_when_prepare_named_its_shapes_and_others(models: dict[str, Path], runtime: Runtime) -> None:
    session, plain = (runtime.open(models[runtime.name], TARGET) for _ in range(2))
    session.prepare([(1, 8), (2, 16), (1, 8)])
    for lengths, padded in (([5], 8), ([9, 16], 16), ([3], 5)):
        batch = batch_of(lengths, padded)
        np.testing.assert_allclose(session.predict(batch)["logits"], plain.predict(batch)["logits"], atol=1e-4, rtol=0)


@real_runtime
def test_open_names_the_missing_package_when_the_runtime_is_not_installed(
    models: dict[str, Path], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(runtime), "package", "a_package_that_nobody_has")
    assert not runtime.available()
    with pytest.raises(MissingPackage, match="a_package_that_nobody_has") as caught:
        runtime.open(models[runtime.name], TARGET)
    assert caught.value.exit_code == 3
    assert caught.value.hint and f"edgebert[{runtime.extra}]" in caught.value.hint


def model_copy(model: Path, folder: Path) -> Path:
    """The model with the files beside it, in a folder of the test's own."""
    if model.is_dir():
        return Path(shutil.copytree(model, folder / "model"))
    shutil.copytree(model.parent, folder / "model")
    return folder / "model" / model.name


def files_of(model: Path) -> list[Path]:
    """Files that the runtime reads: the weights of a folder, or the graph and the weights beside it."""
    if model.is_dir():
        return [model / "model.safetensors", model / "config.json"]
    return [file for file in (model, model.with_suffix(".bin")) if file.is_file()]


@real_runtime
@pytest.mark.parametrize("damage", ["empty", "half", "garbage", "missing"])
def test_open_says_which_file_when_it_is_damaged(
    models: dict[str, Path], runtime: Runtime, damage: str, tmp_path: Path
) -> None:
    for number, name in enumerate(file.name for file in files_of(models[runtime.name])):
        model = model_copy(models[runtime.name], tmp_path / str(number))
        file = next(file for file in files_of(model) if file.name == name)
        contents = {"empty": b"", "half": file.read_bytes()[: file.stat().st_size // 2], "garbage": b"\x80garbage" * 100}
        file.unlink()
        if damage in contents:
            file.write_bytes(contents[damage])
        with pytest.raises(EdgebertError) as caught:
            runtime.open(model, TARGET)
        assert str(model) in str(caught.value), name
        assert not isinstance(caught.value, MissingPackage)


def test_fake_sleeps_for_each_token_when_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    Fake(seconds_per_token=0.5).open(Path("anything"), TARGET).predict(batch_of([7, 10], 10))
    assert slept == [10.0]
