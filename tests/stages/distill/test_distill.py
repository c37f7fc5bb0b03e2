"""distill: learns from its teachers, runs each once, and ends with the same bits however often it was killed."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_model, review_rows, write_table
from fake_stages import Cut, Retoken
from stage_runs import Killed, counted, inputs_of, kill_after, make_bench, measurements, run, tensors

from edgebert.compress.bundle_parts import _lineage_entry
from edgebert.core.store import Artifact
from edgebert.errors import RecipeError, SourceError, StageError, StoreError
from edgebert.models.load import load_model
from edgebert.stages.distill import Distill, learn, losses, teacher_outputs
from edgebert.stages.distill.settings import EarlyStop
from edgebert.stages.examples import Examples
from edgebert.stages.finetune import Finetune
from edgebert.tasks import TASKS
from edgebert.tasks.base import IGNORED

CUT = Cut(kept=((0, (0, 1), 24), (1, (1, 3), 24)))
EASY: dict[str, Any] = {"epochs": 1, "batch_size": 16, "learning_rate": 0.005}
TABLE = "bert.embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    """The tiny model and its data; do not write into it."""
    return make_bench(tmp_path_factory.mktemp("distill"), model_template)


@pytest.fixture(scope="module")
def cut_store(bench: Path) -> Path:
    """A store that holds the cut model."""
    run(bench, bench / "store", CUT)
    return bench / "store"


@pytest.fixture
def store(cut_store: Path, tmp_path: Path) -> Path:
    """A store of the test's own that holds the cut model."""
    return Path(shutil.copytree(cut_store, tmp_path / "store"))


def distilled(bench: Path, store: Path, overrides: Sequence[str] = (), **settings: Any) -> Artifact:
    """The cut model after distillation."""
    return run(bench, store, CUT, Distill(**{**EASY, **settings}), overrides=overrides)[-1]


def same_bits(left: Artifact, right: Artifact) -> bool:
    ours, theirs = tensors(left), tensors(right)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def distance(left: Artifact, right: Artifact) -> float:
    """Mean difference of the weights, the token embeddings apart."""
    return float(differences(left, right).mean())


def moved_apart(left: Artifact, right: Artifact) -> float:
    """Share of the weights, the token embeddings apart, that differ by more than rounding."""
    return float((differences(left, right) > 1e-6).float().mean())


def differences(left: Artifact, right: Artifact) -> torch.Tensor:
    ours, theirs = tensors(left), tensors(right)
    return torch.cat([(ours[name] - theirs[name]).abs().flatten() for name in ours if name != TABLE])


def with_transfer(bench: Path) -> str:
    return f"data.transfer={bench}/data/transfer.csv"


EVERYTHING: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "dropout": 0.1,
    "hard": 0.5,
    "hidden_map": "learned",
    "relations": 0.5,
    "layer_map": "uniform",
    "train_embeddings": True,
    "checkpoint_seconds": 1e-9,
}
STOPPING = {"early_stopping": EarlyStop(share=0.2, every=0.4, patience=2), "accumulate": 2, "learning_rate": 0.05}
AWARE = {"quantization_aware": "dynamic", "precision": "bf16", "learning_rate": 1e-4}


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [EVERYTHING, {**EVERYTHING, **STOPPING}, {**EVERYTHING, **STOPPING, **AWARE}],
    ids=["whole", "with early stopping and accumulation", "quantisation-aware as well"],
)
def test_distill_ends_with_the_same_bits_when_it_was_killed_again_and_again(
    settings: dict[str, Any], bench: Path, store: Path, cut_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = distilled(bench, store, [with_transfer(bench)], **settings)
    stormy = Path(shutil.copytree(cut_store, tmp_path / "stormy"))
    draw, kills, found = random.Random(0), 0, None
    while found is None:
        with monkeypatch.context() as patch:
            kill_after(patch, learn, "loss", draw.randint(4, 9))
            if kills % 2:  # the last checkpoint is then older than the weights kept as the best
                patch.setattr("edgebert.stages.training.save", lambda *_: None)
            try:
                found = distilled(bench, stormy, [with_transfer(bench)], **settings)
            except Killed:
                kills += 1
    assert kills >= 3
    assert found.sha256 == wanted.sha256
    assert found.facts == wanted.facts
    assert list((stormy / "work").glob("*/*")) == []


def test_early_stopping_keeps_the_weights_of_the_best_look(bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    look = learn.train

    def noting(model: Any, *, early_stopping: Any, **options: Any) -> Any:
        def loss_of(module: Any) -> float:
            assert not module.training
            looks.append(early_stopping.loss_of(module))
            return looks[-1]

        watching = type(early_stopping)(loss_of, early_stopping.every, early_stopping.patience)
        facts = look(model, early_stopping=watching, **options)
        with torch.no_grad():
            looks.append(early_stopping.loss_of(model))
        return facts

    monkeypatch.setattr(learn, "train", noting)
    stopping = EarlyStop(share=0.2, every=0.5, patience=2)
    found = distilled(bench, store, epochs=50, learning_rate=0.3, early_stopping=stopping)
    *during, after = looks
    best = min(during)
    assert len(during) < 100, "it stopped before the epochs were over"
    assert len(during) - 1 - during.index(best) == 2, "two looks without a new best"
    assert after == best
    assert found.facts["watched_loss"] == pytest.approx(best, abs=1e-5)
    assert found.facts["steps"] < 50 * 3


def test_early_stopping_holds_out_rows_that_are_not_trained_on(
    bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[bool, set[int]] = {True: set(), False: set()}
    batch = Examples.batch
    monkeypatch.setattr(
        Examples,
        "batch",
        lambda self, indices, **how: seen[torch.is_grad_enabled()].update(indices) or batch(self, indices, **how),
    )
    distilled(bench, store)  # the teacher has answered
    for part in seen.values():
        part.clear()
    distilled(bench, store, epochs=2, early_stopping=EarlyStop(share=0.25))
    assert len(seen[False]) == 12 and len(seen[True]) == 36
    assert not seen[False] & seen[True]


def test_early_stopping_needs_two_rows(bench: Path, store: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "one.csv", [{"text": "a good film"}])
    overrides = ["data.train=null", f"data.transfer={tmp_path}/one.csv"]
    with pytest.raises(StageError, match="early_stopping holds examples out, but there is only one"):
        distilled(bench, store, overrides, early_stopping=EarlyStop())


def test_accumulating_two_batches_is_training_on_one_of_both(bench: Path, store: Path, tmp_path: Path) -> None:
    rows = [{"text": text} for text in ("a good film", "a bad soup", "it was fine", "the app is", "an odd lamp", "very not it")]
    write_table(tmp_path / "few.csv", [*rows, {"text": "good good bad"}, {"text": "was and the"}])
    overrides = ["data.train=null", f"data.transfer={tmp_path}/few.csv"]
    settings = {"hidden": 0.0, "weight_decay": 0.0, "learning_rate": 1e-4}
    whole = distilled(bench, store, overrides, batch_size=8, **settings)
    summed = distilled(bench, store, overrides, batch_size=4, accumulate=2, **settings)
    one = distilled(bench, store, overrides, batch_size=4, **settings)
    assert moved_apart(whole, run(bench, store, CUT)[0]) > 0.5
    assert moved_apart(whole, summed) < 0.01  # AdamW's first step is the gradient's sign: where it is 0, rounding decides
    assert moved_apart(whole, one) > 0.1


def test_teacher_is_asked_once_for_all_trainings(bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counted(monkeypatch, teacher_outputs, "compute", lambda model, examples, indices, requested: len(indices))
    distilled(bench, store, epochs=2)
    assert sum(asked) == 48
    distilled(bench, store, ["seed=1"], learning_rate=0.001, temperature=4.0, epochs=0.5)
    assert sum(asked) == 48
    assert len(measurements(store, "teacher-outputs")) == 1
    distilled(bench, store, layer_map="uniform")  # needs the hidden states of the first layer, too
    assert sum(asked) == 96
    distilled(bench, store, [with_transfer(bench)])
    assert sum(asked) == 96 + 80


def opened_by(distil: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> teacher_outputs.Teacher:
    """The only teacher that a distillation opens."""
    opened: list[Any] = []
    real = learn.learn

    def spied(student: Any, teachers: Any, *arguments: Any, **options: Any) -> Any:
        opened.extend(teachers)
        return real(student, teachers, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(learn, "learn", spied)
        distil()
    (teacher,) = opened
    return teacher


def test_teacher_outputs_are_the_teachers(bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = opened_by(lambda: distilled(bench, store, [with_transfer(bench)], relations=1.0), monkeypatch)
    model = load_model(bench / "model", TASKS[0])
    for indices in ([5], [70, 3, 47]):
        batch = teacher.examples.batch(indices)
        batch.pop("labels")
        with torch.no_grad():
            wanted = model(**batch, output_hidden_states=True)
        found = teacher.outputs(indices)
        assert set(found) == {"logits", "hidden-2", "query-2", "key-2", "value-2"}
        for row, index in enumerate(indices):
            length = teacher.examples.lengths[index]
            torch.testing.assert_close(found["logits"][row], wanted.logits[row], atol=4e-3, rtol=2e-3)
            assert found["hidden-2"][row].shape == (length, 32)
            torch.testing.assert_close(found["hidden-2"][row], wanted.hidden_states[2][row, :length], atol=4e-3, rtol=2e-3)


def test_teacher_outputs_come_batch_by_batch(bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = opened_by(lambda: distilled(bench, store, epochs=0.1), monkeypatch)
    asked: list[int] = []
    teacher.model.register_forward_hook(lambda *_: asked.append(1))
    monkeypatch.setattr(teacher_outputs, "BATCH", 4)
    found = teacher_outputs.compute(teacher.model, teacher.examples, range(12), teacher.requested)
    first, _ = next(found)
    assert len(asked) == 1
    assert {first, *(index for index, _ in found)} == set(range(12))
    assert len(asked) == 3


def test_teacher_is_on_the_accelerator_only_while_it_is_asked(
    bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = opened_by(lambda: distilled(bench, store, epochs=0.1, cache_gb=0), monkeypatch)
    events: list[Any] = []
    monkeypatch.setattr("accelerate.PartialState", lambda: SimpleNamespace(device="the accelerator"))
    monkeypatch.setattr(teacher.model, "to", events.append)
    teacher.model.register_forward_hook(lambda *_: events.append("asked"))
    monkeypatch.setattr(teacher_outputs, "BATCH", 4)
    teacher.outputs([3, 5, 7, 9, 11])
    assert events == ["the accelerator", "asked", "asked", torch.device("cpu")]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_teacher_answers_the_same_on_a_gpu(bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = opened_by(lambda: distilled(bench, store, cache_gb=0), monkeypatch)
    on_gpu = teacher.outputs([3, 5])
    monkeypatch.setattr("accelerate.PartialState", lambda: SimpleNamespace(device="cpu"))
    for name, values in teacher.outputs([3, 5]).items():
        for here, there in zip(values, on_gpu[name], strict=True):
            torch.testing.assert_close(here, there, atol=4e-3, rtol=2e-3)


def test_teacher_outputs_go_on_after_the_last_whole_block(
    bench: Path, store: Path, cut_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_outputs, "BLOCK", 10)
    distilled(bench, store)
    stormy = Path(shutil.copytree(cut_store, tmp_path / "stormy"))
    with monkeypatch.context() as patch:
        kill_after(patch, teacher_outputs, "compute", 3)
        with pytest.raises(Killed):
            distilled(bench, stormy)
    asked = counted(monkeypatch, teacher_outputs, "compute", lambda model, examples, indices, requested: len(indices))
    distilled(bench, stormy)
    assert asked == [10, 8]
    assert [entry.sha256 for entry in measurements(store, "teacher-outputs")] == [
        entry.sha256 for entry in measurements(stormy, "teacher-outputs")
    ]


def altered(file: Path) -> None:
    array = np.load(file, mmap_mode="r+")
    array[0] += 1
    array.flush()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "array that was just opened": lambda work: (work / "logits.npy").write_bytes(b""),
    "array cut in half": lambda work: (work / "hidden-2.npy").write_bytes((work / "hidden-2.npy").read_bytes()[:1000]),
    "array that is gone": lambda work: (work / "hidden-2.npy").unlink(),
    "mark of a power cut": lambda work: (work / "done.json").write_text(""),
    "mark of an older version": lambda work: (work / "done.json").write_text('{"examples": 30}'),
    "other numbers in the first block": lambda work: altered(work / "logits.npy"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_teacher_outputs_start_again_when_what_a_killed_run_left_is_damaged(
    damage: Callable[[Path], object], bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_outputs, "BLOCK", 10)
    with monkeypatch.context() as patch:
        kill_after(patch, teacher_outputs, "compute", 3)
        with pytest.raises(Killed):
            distilled(bench, store, epochs=0.1)
    (mark,) = (store / "work").glob("*/done.json")
    damage(mark.parent)
    asked = counted(monkeypatch, teacher_outputs, "compute", lambda model, examples, indices, requested: len(indices))
    distilled(bench, store, epochs=0.1)
    assert sum(asked) == 48


def test_teacher_outputs_have_their_space_on_disk_before_the_teacher_is_asked(
    bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_after(monkeypatch, teacher_outputs, "compute", 0)
    with pytest.raises(Killed):
        distilled(bench, store, layer_map="uniform")
    sizes = {file.name: file.stat() for file in (store / "work").glob("*/*.npy")}
    assert {"logits.npy", "hidden-1.npy", "hidden-2.npy"} == set(sizes)
    assert all(size.st_blocks * 512 >= size.st_size for size in sizes.values())
    assert sizes["hidden-1.npy"].st_size > 20_000


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve")
def test_distill_reports_that_the_disk_has_no_space_for_the_teachers_outputs(
    bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(StoreError, match=r"No space left for .*store") as caught:
            distilled(bench, store, epochs=0.1)
    assert "edgebert store gc" in str(caught.value.hint)
    assert list((store / "work").glob("*/*.npy")) == []
    assert distilled(bench, store, epochs=0.1).facts["steps"] == 1


@pytest.fixture(scope="module")
def uncut_cache(bench: Path, cut_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artifact]:
    """A store with a student that was trained on a teacher whose outputs all fit the cache, and the student."""
    store = Path(shutil.copytree(cut_store, tmp_path_factory.mktemp("uncut") / "store"))
    return store, distilled(bench, store, epochs=2)


@pytest.mark.parametrize("kilobytes", [0, 10, 30])
def test_cache_stays_under_its_bound_and_changes_nothing(
    kilobytes: int, bench: Path, uncut_cache: tuple[Path, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, whole = Path(shutil.copytree(uncut_cache[0], tmp_path / "store")), uncut_cache[1]
    asked = counted(monkeypatch, teacher_outputs, "compute", lambda model, examples, indices, requested: len(indices))
    bounded = distilled(bench, store, epochs=2, cache_gb=kilobytes / 1e6)
    kept = min(measurements(store, "teacher-outputs"), key=lambda entry: entry.facts["examples"])
    assert sum(file.stat().st_size for file in kept.path.glob("*.npy")) <= max(1000 * kilobytes, 4096)
    assert kept.facts["examples"] < 48 and (kept.facts["examples"] > 0) == (kilobytes > 0)
    assert sum(asked) == kept.facts["examples"] + 2 * (48 - kept.facts["examples"])
    start = run(bench, store, CUT)[0]
    assert distance(whole, bounded) < 0.05 * distance(whole, start)


def test_distill_learns_from_rows_without_labels(bench: Path, store: Path) -> None:
    alone = distilled(bench, store, ["data.train=null", "data.calibration=null", with_transfer(bench)])
    beside = distilled(bench, store, [with_transfer(bench)], hard=1.0)
    labelled = distilled(bench, store, hard=1.0)
    assert (alone.facts["steps"], beside.facts["steps"], labelled.facts["steps"]) == (2, 5, 3)
    assert not same_bits(beside, labelled)


def test_hard_labels_are_those_of_the_rows_that_have_them(bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = learn.loss
    monkeypatch.setattr(learn, "loss", lambda *arguments: seen.extend(arguments[-1].tolist()) or real(*arguments))
    distilled(bench, store, [with_transfer(bench)], hard=1.0)
    indices = {"negative": 0, "positive": 1}
    assert sorted(seen) == sorted([indices.get(row["label"], -2) for row in review_rows(48)] + [IGNORED] * 32)


@pytest.mark.parametrize(
    "weights",
    [
        {"soft": 1.0},
        {"hidden": 1.0},
        {"hidden": 1.0, "hidden_map": "learned"},
        {"relations": 1.0},
        {"hard": 1.0},
        {"soft": 1.0, "hidden": 1.0, "relations": 1.0, "precision": "bf16"},
    ],
    ids=lambda weights: "-".join(weights),
)
def test_each_loss_falls(weights: dict[str, Any], bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    real = learn.loss

    def noting(*arguments: Any) -> torch.Tensor:
        found = real(*arguments)
        losses.append(float(found.detach()))
        return found

    monkeypatch.setattr(learn, "loss", noting)
    settings = {"soft": 0.0, "hidden": 0.0, **weights}
    distilled(bench, store, epochs=12, learning_rate=0.01, train_embeddings=True, **settings)
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])


def test_bf16_runs_and_differs_little(bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = run(bench, store, CUT)[0]
    types: list[Any] = []
    real = learn.loss
    monkeypatch.setattr(learn, "loss", lambda *arguments: types.append(arguments[3]["logits"].dtype) or real(*arguments))
    whole, low = distilled(bench, store, epochs=3), distilled(bench, store, epochs=3, precision="bf16")
    assert types == [torch.float32] * 9 + [torch.bfloat16] * 9
    assert {str(tensor.dtype) for tensor in tensors(low).values()} == {"torch.float32"}
    assert 0 < distance(whole, low) < 0.5 * distance(whole, start)
    assert low.facts["train_loss"] == pytest.approx(whole.facts["train_loss"], rel=0.2)
    assert len(measurements(store, "teacher-outputs")) == 2


@pytest.mark.parametrize("trained", [False, True])
def test_token_embeddings_are_trained_where_it_is_asked(trained: bool, bench: Path, store: Path) -> None:
    before, after = tensors(run(bench, store, CUT)[0]), tensors(distilled(bench, store, train_embeddings=trained))
    assert torch.equal(before[TABLE], after[TABLE]) != trained
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "bert.embeddings.position_embeddings.weight" in changed
    assert {name for name in before if name.startswith(("bert.encoder", "classifier"))} <= changed


def test_student_is_as_it_was_but_for_its_weights(bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    students: list[Any] = []
    shares: set[float] = set()
    real, real_loss = learn.learn, learn.loss

    def noting_loss(*arguments: Any) -> torch.Tensor:
        shares.update(module.p for module in students[0].modules() if isinstance(module, torch.nn.Dropout))
        return real_loss(*arguments)

    def spied(student: Any, *arguments: Any, **options: Any) -> Any:
        students.append(student)
        return real(student, *arguments, **options)

    monkeypatch.setattr(learn, "learn", spied)
    monkeypatch.setattr(learn, "loss", noting_loss)
    start, found = run(bench, store, CUT, Distill(**EASY, dropout=0.25))
    assert shares == {0.25}
    (student,) = students
    assert {module.p for module in student.modules() if isinstance(module, torch.nn.Dropout)} == {0.1}
    assert not student.training and all(parameter.requires_grad for parameter in student.parameters())
    assert (found.path / "config.json").read_bytes() == (start.path / "config.json").read_bytes()
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
    assert set(found.manifest.files) == files
    assert tensors(found).keys() == tensors(start).keys()  # no learned map


def test_distill_reports_a_loss_that_is_no_number(bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn, "loss", lambda *arguments: arguments[3]["logits"].sum() * float("nan"))
    with pytest.raises(StageError, match="distill: the loss became nan at step 1 of 3") as caught:
        distilled(bench, store)
    assert "learning_rate" in str(caught.value.hint)


def bert(layers: int, *, cut: Sequence[int] | None = None, then: Sequence[int] | None = None) -> Any:
    """A BERT of this many layers; `cut` keeps some of them, `then` some of those."""
    from transformers import BertConfig, BertForSequenceClassification

    from edgebert.models.surgery import everything, prune

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 20}
    model = BertForSequenceClassification(BertConfig(num_hidden_layers=layers, max_position_embeddings=16, **sizes))
    for kept in (cut, then):
        if kept is not None:
            model = prune(model, {index: units for index, units in everything(model).items() if index in kept})
    return model


def test_layer_maps_pair_the_layers_of_their_names() -> None:
    teacher, student = bert(6), bert(6, cut=(0, 3, 5))
    assert losses.layer_pairs("last", student, teacher) == [(3, 6)]
    assert losses.layer_pairs("uniform", student, teacher) == [(1, 2), (2, 4), (3, 6)]
    assert losses.layer_pairs("kept", student, teacher) == [(1, 1), (2, 4), (3, 6)]
    assert losses.layer_pairs(((1, 5), (3, 6)), student, teacher) == [(1, 5), (3, 6)]
    assert losses.layer_pairs("kept", bert(6, cut=(0, 3, 5), then=(1, 2)), teacher) == [(1, 4), (2, 6)]
    assert losses.layer_pairs("kept", student, bert(12)) == [(1, 2), (2, 8), (3, 12)]
    assert losses.layer_pairs("kept", bert(3), bert(6)) == [(1, 2), (2, 4), (3, 6)]
    assert losses.layer_pairs("uniform", bert(5), bert(1)) == [(layer, 1) for layer in range(1, 6)]
    assistant = bert(6, cut=(3, 4, 5))  # a teacher that was pruned itself
    assert losses.layer_pairs("kept", bert(6, cut=(3, 4, 5), then=(0, 2)), assistant) == [(1, 1), (2, 3)]
    assert losses.layer_pairs("kept", assistant, assistant) == [(1, 1), (2, 2), (3, 3)]


def test_layer_map_names_a_layer_that_an_earlier_stage_removed(bench: Path, store: Path) -> None:
    stages = (Cut(kept=((1, (0, 1), 24),)), Distill(**EASY, layer_map=((2, 2),)))
    with pytest.raises(StageError, match=r"layer_map: \[2, 2\] names a layer that is not there; the student has 1"):
        run(bench, store, *stages)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another teacher: wider, deeper, with a vocabulary of its own."""
    folder = tmp_path_factory.mktemp("teachers") / "wide"
    make_model(folder)
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["cinema", "waste"])  # another id for some words, another length for some texts
    tokenizer.save(str(folder / "tokenizer.json"))
    config = BertConfig.from_pretrained(folder)
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": config.vocab_size + 2}
    config.update({**sizes, "intermediate_size": 40})
    torch.manual_seed(7)
    BertForSequenceClassification(config).eval().save_pretrained(folder)
    return folder


def test_wider_teacher_is_learned_from_through_a_map(
    wide: Path, bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, ...]] = []
    real = losses.hidden_states
    monkeypatch.setattr(
        losses, "hidden_states", lambda ours, theirs, tokens: compared.append(ours.shape[2:]) or real(ours, theirs, tokens)
    )
    found = distilled(bench, store, teachers=[str(wide)], relations=1.0, layer_map="uniform", epochs=2)
    assert set(compared) == {(48,)}
    assert {tensor.shape for name, tensor in tensors(found).items() if name.endswith("LayerNorm.bias")} == {(32,)}
    (outputs,) = measurements(store, "teacher-outputs")
    assert {file.name for file in outputs.path.glob("hidden-*")} == {"hidden-2.npy", "hidden-3.npy"}


def test_teacher_reads_the_tokens_of_its_own_tokenizer(
    wide: Path, bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenizers import Tokenizer

    teacher = opened_by(lambda: distilled(bench, store, teachers=[str(wide)], epochs=0.1), monkeypatch)
    texts = [row["text"] for row in review_rows(48)]
    ours, theirs = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (bench / "model", wide))
    for tokenizer in (ours, theirs):
        tokenizer.enable_truncation(32)  # task.max_length
    differing = [index for index, text in enumerate(texts) if ours.encode(text).ids != theirs.encode(text).ids]
    assert differing
    model = load_model(wide, TASKS[0])
    for index in (0, *differing):
        ids = torch.tensor([theirs.encode(texts[index]).ids])
        with torch.no_grad():
            wanted = model(input_ids=ids, output_hidden_states=True)
        found = teacher.outputs([index])
        torch.testing.assert_close(found["logits"][0], wanted.logits[0], atol=4e-3, rtol=2e-3)
        torch.testing.assert_close(found["hidden-3"][0], wanted.hidden_states[3][0], atol=4e-3, rtol=2e-3)


def test_tokens_that_do_not_match_are_left_out(bench: Path) -> None:
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    stacked, tokens = losses._padded([torch.ones(2, 4), torch.ones(2, 4)], mask)
    assert stacked.shape == (2, 3, 4)
    assert tokens.tolist() == [[False] * 3, [True, True, False]]


def test_several_teachers_answer_with_the_mean_of_their_logits(
    wide: Path, bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[Any] = []
    real = learn._outputs

    def noting(teachers: Any, indices: Any, examples: Any, *options: Any) -> Any:
        found = real(teachers, indices, examples, *options)
        taught.append((list(teachers), list(indices), found))
        return found

    monkeypatch.setattr(learn, "_outputs", noting)
    distilled(bench, store, teachers=["teacher", str(wide)])
    teachers, indices, found = taught[0]
    first, second = (teacher.outputs(indices) for teacher in teachers)
    for row in range(len(indices)):
        torch.testing.assert_close(found["logits"][row], (first["logits"][row] + second["logits"][row]) / 2)
        assert not torch.equal(first["logits"][row], second["logits"][row])
        assert torch.equal(found["hidden-2"][row], first["hidden-2"][row])
    assert set(second) == {"logits"}


def test_lineage_does_not_show_the_folder_of_another_teacher(wide: Path, bench: Path, store: Path) -> None:
    made = distilled(bench, store, teachers=["teacher", str(wide)], epochs=0.1)
    assert _lineage_entry(made)["parameters"]["teachers"] == ["teacher", "wide"]


MORE = Cut(kept=((0, (0,), 16), (1, (0,), 16)))


def test_assistant_is_what_the_distill_before_made(bench: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgebert.stages.distill import teachers

    found: list[Artifact] = []
    real = teachers.find
    monkeypatch.setattr(teachers, "find", lambda *arguments: found.append(real(*arguments)) or found[-1])
    made = run(bench, store, CUT, Distill(**EASY), MORE, Distill(**EASY, teachers=["assistant"]))
    assert [entry.key for entry in found[1:]] == [made[1].key]
    assert found[0].format == "transformers" and found[0].manifest.made_by.name == "model"
    assert measurements(store, "teacher-outputs")[-1].parent == made[1].key


@pytest.mark.parametrize("before", [(CUT,), (CUT, Distill(**EASY)), (Distill(**EASY),)], ids=["no distill", "itself", "only"])
def test_assistant_has_to_be_there(before: Any, bench: Path) -> None:
    with pytest.raises(RecipeError, match="teachers names `assistant`, but no earlier stage distils one; put `- distill`"):
        inputs_of(bench, *before, Distill(epochs=2, teachers=["assistant"]))


def test_teachers_labels_are_compared_with_those_that_finetune_finds(bench: Path, tmp_path: Path) -> None:
    three = make_model(tmp_path / "three", labels=("a", "b", "c"))
    encoder = make_model(tmp_path / "encoder", head=False)
    stages = (Finetune(epochs=0.1), Distill(**EASY, teachers=[str(three)]))
    with pytest.raises(SourceError, match="has 3 labels, the task 2"):
        run(bench, tmp_path / "store", *stages, overrides=[f"model={encoder}"])


def test_student_with_another_tokenizer_sees_its_own_tokens(bench: Path, tmp_path: Path) -> None:
    stages = (CUT, Retoken(), Distill(**EASY))
    made = run(bench, tmp_path / "store", *stages)
    assert (made[-1].path / "tokenizer.json").read_bytes() == (made[1].path / "tokenizer.json").read_bytes()


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[Examples]:
    """The examples of each training, as they come."""
    found: list[Examples] = []
    real = learn.learn
    monkeypatch.setattr(learn, "learn", lambda *given, **options: found.append(given[3]) or real(*given, **options))
    return found


def test_made_up_rows_come_after_the_others_without_labels(bench: Path, store: Path, trained_on: list[Examples]) -> None:
    distilled(bench, store, [with_transfer(bench)], augment=2)
    (examples,) = trained_on
    assert [len(data) for data in examples.sets] == [48, 32, 2 * 48, 2 * 32]
    targets = examples.batch(range(len(examples)))["labels"].tolist()
    assert IGNORED not in targets[:48] and set(targets[48:]) == {IGNORED}
    assert [outputs.facts["examples"] for outputs in measurements(store, "teacher-outputs")] == [3 * (48 + 32)]


def test_made_up_rows_are_made_once_follow_the_seed_and_change_what_is_learned(
    bench: Path, store: Path, trained_on: list[Examples]
) -> None:
    made_up = distilled(bench, store, augment=1)
    distilled(bench, store, augment=1, temperature=4.0)
    assert len(measurements(store, "made-up-rows")) == 1
    distilled(bench, store, ["seed=1"], augment=1)
    first, _, other = (examples.sets[1].rows() for examples in trained_on)
    assert first != other
    assert made_up.sha256 != distilled(bench, store).sha256
