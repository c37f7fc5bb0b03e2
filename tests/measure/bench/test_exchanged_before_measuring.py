"""Bundles that are exchanged between the check of their signature and the process that measures them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bundles import FP32, small_bundle
from exchanges import exchange, tampered

from edgebert.core.progress import Silent
from edgebert.errors import BundleError, EdgebertError
from edgebert.measure.bench.models import BenchModel, ModelRequest, find_models
from edgebert.measure.bench.probe import probe
from edgebert.measure.bench.queries import QuerySource
from edgebert.measure.bench.run import run
from edgebert.measure.bench.scoring import predict
from edgebert.measure.bench.sweep import BenchOptions, make_plan

ROWS = [{"text": "a good film"}]
OPTIONS = BenchOptions(queries=8, rounds=1, warmup=1)


@pytest.fixture
def found(model_template: Path, tmp_path: Path) -> tuple[BenchModel, Callable[[], None]]:
    """A bundle's FP32 model, and what exchanges the bundle for one that nobody signed."""
    bundle = Path(shutil.copytree(small_bundle(model_template), tmp_path / "bundle"))
    evil = tampered(bundle, tmp_path / "evil")
    (model,) = find_models(str(bundle), ModelRequest((FP32,)), Silent())
    return model, lambda: exchange(bundle, evil)


def test_a_bundle_exchanged_after_its_check_is_neither_probed_nor_measured_nor_scored(
    found: tuple[BenchModel, Callable[[], None]],
) -> None:
    model, swap = found
    plan = make_plan([(model, "candidate")], OPTIONS, QuerySource(None, 0), Silent())
    assert len(run(plan, OPTIONS, QuerySource(None, 0), Silent()).report.entries[0].rounds) == 1
    assert model.serving is not None
    assert predict(model, model.target, ROWS, Silent()) in (["negative"], ["positive"])
    swap()
    with pytest.raises(EdgebertError, match=r"model\.onnx was altered"):
        probe(model, model.target, usual=8, longest=16)
    with pytest.raises(EdgebertError, match=r"model\.onnx was altered"):
        run(plan, OPTIONS, QuerySource(None, 0), Silent())
    with pytest.raises(BundleError, match=r"model\.onnx was altered"):
        predict(model, model.target, ROWS, Silent())
    model.serving.tokenizer.write_text(model.serving.tokenizer.read_text().replace('"good"', '"g00d"'))
    with pytest.raises(BundleError, match=r"tokenizer\.json was altered"):
        model.serving.open_tokenizer()
