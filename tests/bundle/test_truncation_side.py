"""The side on which a bundle's texts are cut is the one on which they were cut when it was measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from bundles import changed, signed, small_bundle
from conftest import compress_recipe, write_recipe

import edgebert
from edgebert.bundle.read import open_bundle_folder
from edgebert.compress.step_keys import step_key
from edgebert.core.progress import Silent
from edgebert.measure.bench.models import ModelRequest, find_models
from edgebert.measure.latency.job import RoundJob
from edgebert.measure.latency.query_maker import QueryMaker
from edgebert.tasks import get_task

LONG = " ".join(["good"] * 200 + ["bad"] * 200)
LEFT = {"direction": "Left", "max_length": 32, "strategy": "LongestFirst", "stride": 0}


def cut_left(folder: Path) -> Path:
    """Has a folder's tokenizer.json cut on the left."""
    file = folder / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "truncation": LEFT}))
    return folder


@pytest.fixture(scope="module")
def former(model_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as 0.1 made it of a model whose tokenizer.json cuts on the left: it was measured with texts cut on the right."""
    bundle = tmp_path_factory.mktemp("former") / "bundle"
    return signed(cut_left(Path(shutil.copytree(small_bundle(model_template), bundle))))


def first_ids(bundle: Path) -> list[int]:
    """Ids of a long text in a bundle, without the two around it."""
    with open_bundle_folder(bundle) as found:
        return list(found.serving.encode(found.open_tokenizer(), [{"text": LONG}])[0].ids[1:-1])


def test_a_former_bundle_is_served_as_it_was_measured(former: Path, model_template: Path, tmp_path: Path) -> None:
    assert first_ids(former) == first_ids(small_bundle(model_template))
    assert edgebert.load(former)(LONG) == edgebert.load(small_bundle(model_template))(LONG)
    said = changed(former, tmp_path / "left", lambda manifest: manifest.update(truncation_side="left"))
    assert set(first_ids(said)).isdisjoint(first_ids(former))


def test_a_former_bundle_is_measured_as_it_is_served(former: Path, tmp_path: Path) -> None:
    model = find_models(str(former), ModelRequest(), Silent())[0]
    serving = model.serving
    assert serving is not None
    assert list(serving.encode(serving.open_tokenizer(), [{"text": LONG}])[0].ids[1:-1]) == first_ids(former)
    fields = {"model": str(model.file), "target": model.target, "task": model.task, "labels": model.labels}
    lengths = {"max_length": model.max_length, "pad_id": model.pad_id, "rows": str(tmp_path / "rows"), "warmup": 0}
    job = RoundJob(round=0, tokenizer=str(model.tokenizer), truncation_side=model.truncation_side, **fields, **lengths)
    assert list(QueryMaker(job).encode([{"text": LONG}])[0][0].ids[1:-1]) == first_ids(former)


def test_only_the_left_is_written_for_older_versions_read_what_they_know(model_template: Path) -> None:
    assert "truncation_side" not in json.loads((small_bundle(model_template) / "edgebert.json").read_text())


@pytest.mark.slow
def test_a_bundle_of_a_model_that_cuts_on_the_left_says_so(model_template: Path, tmp_path: Path) -> None:
    model = cut_left(Path(shutil.copytree(model_template, tmp_path / "source")))
    compress_recipe(write_recipe(tmp_path, model), "measure={rounds: 1, queries: 16, warmup: 1, golden_inputs: 2}")
    bundle = tmp_path / "runs" / "recipe" / "bundle"
    assert json.loads((bundle / "edgebert.json").read_text())["truncation_side"] == "left"
    assert set(first_ids(bundle)).isdisjoint(first_ids(small_bundle(model_template)))


def test_keys_differ_where_the_side_is_the_left_alone(model_template: Path, tmp_path: Path) -> None:
    """Results in a store of before 0.2 were made of texts cut on the right."""
    left = cut_left(Path(shutil.copytree(model_template, tmp_path / "left")))
    right = Path(shutil.copytree(left, tmp_path / "right"))
    file = right / "tokenizer.json"
    file.write_text(file.read_text().replace('"Left"', '"Right"'))
    keys = [_keys(folder) for folder in (model_template, right, left)]
    assert keys[0] == keys[1]
    assert all(one != other for one, other in zip(keys[0], keys[2], strict=True))


def _keys(folder: Path) -> list[Any]:
    """Keys of a step with a teacher and without, where all hashes of contents are the same."""
    stage = SimpleNamespace(
        needed=frozenset, stage_name=lambda: "export", version=1, parameters=dict, keyed_by_packages=False, models=tuple
    )
    step, resolved = SimpleNamespace(stage=stage), SimpleNamespace(task=get_task("text-classification"), specs={})
    model = SimpleNamespace(sha256="0", format="transformers", key="1", path=folder)
    plain = SimpleNamespace(sha256="0", format="transformers", key="1", path=folder.parent / "none")
    return [step_key(*cast(Any, arguments)) for arguments in ((step, model, resolved, ()), (step, plain, resolved, (), model))]
