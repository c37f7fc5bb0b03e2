"""Fill-mask: what is masked, answers as Transformers' pipeline gives them, metrics as torch computes them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_rows import rows_of
from tiny_families import tiny_folder
from tokenizers import Tokenizer, models

from edgebert.core.files import sentences
from edgebert.core.packages import quiet_libraries
from edgebert.errors import InputError, StageError
from edgebert.measure.predictions import statistics_of
from edgebert.models.folder import inspect_model
from edgebert.models.load import copy_tokenizer, load_model, run_model, save_model
from edgebert.models.surgery import Units, prune
from edgebert.runtimes.serving import Serving
from edgebert.stages.distill.teacher_outputs import RequestedOutputs, fitting
from edgebert.tasks import get_task
from edgebert.tasks.answers import Detail
from edgebert.tasks.base import IGNORED, Encoded, Row, collate, padded_targets, split_outputs

TASK = get_task("fill-mask")
LENGTH = 32


@pytest.fixture(scope="module", params=["bert", "distilbert", "roberta"])
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(request.param, TASK.architecture, tmp_path_factory.mktemp("model"), layers=1)


@pytest.fixture(scope="module")
def tokenizer(model_template: Path) -> Tokenizer:
    return Tokenizer.from_file(str(model_template / "tokenizer.json"))


def asked(folder: Path, rows: list[Row]) -> tuple[Tokenizer, list[Encoded], list[dict[str, Any]], Any]:
    """The tokenizer, windows, outputs that are read, and all logits of a batch."""
    assert inspect_model(folder).head_fault(TASK) is None
    model = load_model(folder, TASK)
    serving = Serving(TASK, (), LENGTH, model.config.pad_token_id, folder / "tokenizer.json")
    tokenizer = serving.open_tokenizer()
    encoded = serving.encode(tokenizer, rows)
    batch = collate(encoded, length=max(map(len, encoded)), pad_id=serving.pad_id)
    with torch.no_grad():
        logits = run_model(model, {name: torch.from_numpy(value) for name, value in batch.items()})["logits"]
    return tokenizer, encoded, split_outputs(TASK, {"logits": logits.numpy()}, encoded), logits


def test_answers_are_those_of_transformers_pipeline(folder: Path) -> None:
    from transformers import pipeline

    with quiet_libraries():
        theirs = pipeline("fill-mask", model=str(folder), device="cpu")
    spelled = theirs.tokenizer.mask_token
    texts = [f"a good {spelled}", f"{spelled} soup was {spelled}, the lamp"]
    rows = [TASK.row_of(text) for text in texts]
    tokenizer, encoded, outputs, _ = asked(folder, rows)
    answers = TASK.worded(TASK.answer(outputs, encoded, rows, (), Detail(top_k=3)), tokenizer)
    for text, answer in zip(texts, answers, strict=True):
        with quiet_libraries():
            wanted = theirs(text, top_k=3)
        wanted = wanted if isinstance(wanted[0], list) else [wanted]
        found = answer.as_json()["masks"]
        assert len(found) == len(wanted) == text.count(spelled)
        for ours, expected in zip(found, wanted, strict=True):
            assert [one["token"] for one in ours] == [one["token"] for one in expected]
            assert [one["score"] for one in ours] == pytest.approx([one["score"] for one in expected], rel=1e-4)
            assert [one["text"].strip() for one in ours] == [one["token_str"].strip() for one in expected]
        assert spelled in found[0][0]["sequence"] or len(found) == 1
        assert all(isinstance(cell, str) and cell for cell in answer.cells())
    other = "<mask>" if spelled == "[MASK]" else "[MASK]"  # either spelling means the model's own
    again = TASK.encode(tokenizer, [{"text": text.replace(spelled, other)} for text in texts], LENGTH)
    assert again == encoded and [item.right for item in again] == [(), ()]


def test_metrics_and_loss_are_those_of_torch(folder: Path) -> None:
    rows: list[Row] = [dict(row) for row in rows_of(TASK, 6)]
    _, encoded, outputs, logits = asked(folder, rows)
    predictions = TASK.decode(outputs, encoded, rows, ())
    targets = torch.from_numpy(
        padded_targets([TASK.targets(item, rows[item.row], {}) for item in encoded], logits.shape[1], of_tokens=TASK.of_tokens)
    )
    wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    values = {name: one.value() for name, one in statistics_of(TASK, predictions, [None] * 6, ()).items()}
    assert values["perplexity"] == pytest.approx(math.exp(wanted), rel=1e-4)
    assert float(TASK.loss(logits, targets)) == pytest.approx(float(wanted), rel=1e-5)
    chosen = targets != IGNORED
    assert values["mask_accuracy"] == pytest.approx(float((logits.argmax(-1) == targets)[chosen].float().mean()))
    assert float(TASK.loss(logits, torch.full_like(targets, IGNORED))) == 0.0
    perfect = [{**item, "tokens": item["right"], "nll": 0.0} for item in predictions]
    best = {name: one.value() for name, one in statistics_of(TASK, perfect, [None] * 6, ()).items()}
    guess = {name: one.value() for name, one in statistics_of(TASK, TASK.guesses([None] * 6), [None] * 6, ()).items()}
    assert best == {"mask_accuracy": 1.0, "perplexity": 1.0} and guess["mask_accuracy"] == 0.0 and guess["perplexity"] > 1000
    assert TASK.agrees(predictions[0], {**predictions[0], "nll": 9.0}) and not TASK.agrees({"tokens": [1]}, {"tokens": [2]})


def test_fifteen_percent_of_the_tokens_are_masked_and_always_the_same(tokenizer: Tokenizer) -> None:
    rows = [{"text": text} for text in sentences()[:40]]
    encoded = TASK.encode(tokenizer, rows, 64)
    mask, special = tokenizer.token_to_id("[MASK]"), {tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]", "[UNK]")}
    for row, item in zip(rows, encoded, strict=True):
        assert item.read and [item.ids[index] for index in item.read] == [mask] * len(item.read)
        whole = list(item.ids)
        for place, token in zip(item.read, item.right, strict=True):
            whole[place] = token
        assert whole == tokenizer.encode(row["text"]).ids[: len(whole)] and not special & set(item.right)
        plain = sum(token not in special for token in whole)
        assert len(item.right) == max(1, round(0.15 * plain))
        assert TASK.encode(tokenizer, [row], 64)[0].read == item.read
    assert len({item.read for item in encoded}) > 5


@pytest.mark.parametrize("text", ["", "   ", "😀", "\ufffd half", "a " * 50_000, "good 東京 Ünï"])
def test_strange_texts_have_defined_answers(text: str, tokenizer: Tokenizer) -> None:
    rows = [{"text": text}]
    (item,) = TASK.encode(tokenizer, rows, 16)
    assert item.read is not None and len(item.read) == len(item.right) and len(item) <= 16
    logits = np.random.default_rng(0).normal(size=(1, len(item), 400)).astype(np.float32)
    (prediction,) = TASK.decode(split_outputs(TASK, {"logits": logits}, [item]), [item], rows, ())
    assert math.isfinite(prediction["nll"]) and len(prediction["tokens"]) == len(item.right)
    assert statistics_of(TASK, [prediction], [None], ())["perplexity"].value() >= 1


def test_what_cannot_be_asked_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="without a mask") as fault:
        TASK.row_of("a good film")
    assert "[MASK]" in str(fault.value.hint)
    with pytest.raises(ValueError, match="mask of its own"):
        TASK.check_row({"text": "a <mask> film"})
    rows = [{"text": "a good film " * 20 + "[MASK]"}]
    encoded = TASK.encode(tokenizer, rows, 16)
    with pytest.raises(InputError, match="beyond the 16 tokens"):
        TASK.answer([{"logits": np.zeros((0, 40), np.float32)}], encoded, rows, ())
    with pytest.raises(InputError, match="no mask token"):
        TASK.encode(Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")), [{"text": "a"}], 16)
    with pytest.raises(StageError, match="has 30 tokens, the teacher's 40"):
        TASK.imitate(torch.zeros(1, 2, 30), torch.zeros(1, 2, 40), torch.ones(1, 2, dtype=torch.bool), 1.0)


def test_goldens_are_a_sample_of_the_vocabulary() -> None:
    logits = np.arange(2 * 30_522, dtype=np.float32).reshape(2, -1)
    part = TASK.golden_part({"logits": logits})["logits"]
    assert part.shape[0] == 2 and 200 < part.shape[1] <= 256 and set(part[0]) <= set(logits[0])
    assert TASK.golden_part({"logits": logits[:, :40]})["logits"].shape == (2, 40)
    (output,) = TASK.outputs
    assert output.fits(part.shape, tokens=9, labels=0) and not output.fits((9,), tokens=9, labels=0)


def test_a_teachers_outputs_of_a_whole_vocabulary_are_not_kept() -> None:
    class OfTask:
        serving = Serving(TASK, (), 8, 0, Path("none"))

    assert fitting(None, OfTask(), RequestedOutputs((), 1 << 40, "fp32")) == 0  # type: ignore[arg-type]


def test_a_smaller_language_model_is_a_base_for_other_tasks(tmp_path: Path) -> None:
    whole = tiny_folder("bert", TASK.architecture, tmp_path / "whole")
    smaller = prune(load_model(whole, TASK), {0: Units((0, 2), (1, 5, 20))})
    save_model(smaller, tmp_path / "smaller")
    copy_tokenizer(whole, tmp_path / "smaller")
    found, other = inspect_model(tmp_path / "smaller"), get_task("text-classification")
    assert found.has_head(TASK) and not found.has_head(other)
    tuned = load_model(tmp_path / "smaller", other, ["no", "yes"])
    assert tuned.num_labels == 2 and tuned.config.num_hidden_layers == 1
    for task, folder, fault in ((other, whole, "made for another task"), (TASK, tmp_path / "plain", "not fine-tuned")):
        if folder != whole:
            tiny_folder("bert", "Model", folder)
        assert fault in str(inspect_model(folder).head_fault(task))
