"""Every quantisation method takes a model of each set of inputs: calibration gives a graph those that it has, and no others.

The methods that recipes take by default quantise a model of every family in the chains of the grid.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_families import TEXTS, tiny_folder

from edgebert.models.families import FAMILIES
from edgebert.models.families.base import Family
from edgebert.models.folder import inspect_model
from edgebert.runtimes import get_runtime, openers
from edgebert.runtimes.openvino import convert_to_openvino
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.stages.export import export_onnx
from edgebert.stages.quantize.method import Method
from edgebert.stages.quantize.methods import METHODS
from edgebert.stages.quantize.settings import Settings
from edgebert.stages.scorer import Scorer
from edgebert.tasks import get_task

pytestmark = pytest.mark.slow
TASK = get_task("text-classification")
ONE_OF_EACH = list({family.inputs: family for family in reversed(FAMILIES)}.values())
"""A family for each set of inputs."""


@pytest.fixture(scope="module", params=ONE_OF_EACH, ids=lambda family: family.model_type)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model, and in it its graphs."""
    family: Family = request.param
    folder = tiny_folder(family.model_type, "ForSequenceClassification", tmp_path_factory.mktemp("model"), layers=1)
    export_onnx(folder, TASK, folder / "model.onnx")
    convert_to_openvino(folder / "model.onnx", folder / "openvino_model.xml")
    return folder


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.method_name())
def test_a_method_quantises_a_model_of_the_family(method: type[Method], source: Path, tmp_path: Path) -> None:
    model = inspect_model(source)
    serving = Serving(TASK, model.labels, 32, int(model.config["pad_token_id"]), source / "tokenizer.json")
    rows = tuple({"text": text} for text in TEXTS)
    encoded = tuple(serving.encode(serving.open_tokenizer(), rows))
    right = tuple(model.labels[number] for number in (0, 1, 0, 1, 0))
    settings = Settings(calibration=encoded, task=TASK, score=Scorer(TASK, model.labels, rows, encoded, right))
    file = {"onnx": "model.onnx", "openvino": "openvino_model.xml"}[method.format]
    method().quantize(source / file if method.from_graph else source, tmp_path, settings)
    runtime = openers(Path(file).suffix)[0].name
    session = get_runtime(runtime).open(tmp_path / file, Target(runtime=runtime))
    logits = session.predict(serving.batch(encoded, Target(runtime=runtime, batch=len(encoded))))["logits"]
    assert logits.shape == (len(TEXTS), 2) and np.isfinite(logits).all()
