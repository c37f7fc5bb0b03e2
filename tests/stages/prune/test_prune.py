"""prune: reaches its goal, keeps the parts that the task needs, reports its facts, and resumes after a kill."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import review_rows, write_table
from stage_runs import Killed, counted, inputs_of, kill_after, make_bench, run, tensors
from tokenizers import Tokenizer

from edgebert.compress.compression import Compression
from edgebert.core.progress import Silent
from edgebert.core.store import Artifact, ArtifactStore
from edgebert.errors import StageError
from edgebert.models.load import load_model
from edgebert.models.sizes import Shape, mean_macs
from edgebert.models.surgery import Units, shape_of
from edgebert.stages.distill import learn
from edgebert.stages.distill.settings import EarlyStop
from edgebert.stages.examples import Examples
from edgebert.stages.prune import Prune, cut, finished
from edgebert.stages.prune import run as running
from edgebert.stages.prune.budget import Budget
from edgebert.stages.prune.latency import layer_latency
from edgebert.stages.prune.latency.latency_table import LatencyTable
from edgebert.stages.prune.settings import Goal, Recovery, Sizes, VocabularyCut
from edgebert.tasks import TASKS
from edgebert.tasks.base import IGNORED

RECOVER = Recovery(epochs=1, batch_size=16, learning_rate=0.002, checkpoint_seconds=1e-9)
TABLE = "bert.embeddings.word_embeddings.weight"
POSITIONS = "bert.embeddings.position_embeddings.weight"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    """The tiny model and its data; do not write into it."""
    return make_bench(tmp_path_factory.mktemp("prune"), model_template)


def pruned(bench: Path, store: Path, overrides: tuple[str, ...] = (), **settings: Any) -> Artifact:
    """The tiny model after pruning."""
    return run(bench, store, Prune(**{"block": 8, **settings}), overrides=overrides)[0]


def opened(artifact: Artifact) -> Any:
    return load_model(artifact.path, TASKS[0])


def shape(artifact: Artifact) -> Shape:
    return Shape.from_config(json.loads((artifact.path / "config.json").read_text()))


def eval_lengths(bench: Path) -> list[int]:
    tokenizer = Tokenizer.from_file(str(bench / "model" / "tokenizer.json"))
    tokenizer.enable_truncation(32)
    return [len(tokenizer.encode(row["text"]).ids) for row in review_rows(24, split="eval")]


@pytest.mark.parametrize("share", [0.7, 0.3, 0.1])
def test_macs_goal_is_met_and_used(share: float, bench: Path, tmp_path: Path) -> None:
    found = pruned(bench, tmp_path / "store", to=Goal(macs=share))
    whole, left, lengths = Shape(32, 8, (4, 4), (64, 64)), shape(found), eval_lengths(bench)
    assert 0.7 * share < mean_macs(left, lengths) / mean_macs(whole, lengths) <= share
    assert found.facts == {
        "layers": left.layers,
        "heads": list(left.heads),
        "intermediate_sizes": list(left.intermediate_sizes),
        "macs": round(mean_macs(left, lengths)),
        "macs_before": round(mean_macs(whole, lengths)),
        "parameters": sum(tensor.numel() for tensor in tensors(found).values()),
    }
    assert all(size % 8 == 0 for size in left.intermediate_sizes)
    assert shape_of(opened(found)) == left
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"} == set(
        found.manifest.files
    )


def test_macs_budget_counts_the_square_of_each_length() -> None:
    whole, left, lengths = Shape(32, 8, (4, 4), (64, 64)), Shape(32, 8, (4, 4), (8, 8)), [4, 4, 4, 300]
    budget = Budget.of_macs(whole, lengths, share=0.5)
    cost = sum(map(budget.costs.attention, left.heads)) + sum(map(budget.costs.ffn, left.intermediate_sizes))
    assert cost == pytest.approx(mean_macs(left, lengths))
    assert budget.limit == pytest.approx(0.5 * mean_macs(whole, lengths))


@pytest.mark.parametrize("layers", [1, 2])
def test_depth_is_kept_exactly(layers: int, bench: Path, tmp_path: Path) -> None:
    assert shape(pruned(bench, tmp_path / "store", to=Goal(macs=0.4), depth=layers)).layers == layers


def test_sizes_are_taken_as_they_are(bench: Path, tmp_path: Path) -> None:
    sizes = Sizes(layers=(1,), heads=3, intermediate_sizes=(21,))
    found = pruned(bench, tmp_path / "store", sizes=sizes)
    config = json.loads((found.path / "config.json").read_text())
    assert shape(found) == Shape(32, 8, (3,), (21,))
    assert (config["source_layers"], config["source_num_hidden_layers"]) == ([1], 2)
    each = pruned(bench, tmp_path / "store", sizes=Sizes(heads=(4, 1)), reconstruct=False)
    assert shape(each) == Shape(32, 8, (4, 1), (64, 64))


def test_sizes_that_an_earlier_stage_made_impossible_are_named(bench: Path, tmp_path: Path) -> None:
    stages = (Prune(sizes=Sizes(layers=(0,))), Prune(sizes=Sizes(heads=(2, 2))))
    with pytest.raises(StageError, match=r"sizes\.heads has 2 entries for 1 layers that stay") as caught:
        run(bench, tmp_path / "store", *stages)
    assert "before it" in str(caught.value.hint)


@pytest.fixture(scope="module")
def halved(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The tiny model with half of its MACs, by Fisher information."""
    return pruned(bench, tmp_path_factory.mktemp("halved"), to=Goal(macs=0.5))


@pytest.mark.parametrize("importance", ["magnitude", "random"])
def test_other_importances_reach_the_same_goal_with_other_units(
    importance: Any, halved: Artifact, bench: Path, tmp_path: Path
) -> None:
    found = pruned(bench, tmp_path / "store", to=Goal(macs=0.5), importance=importance)
    assert found.facts["macs"] <= 0.5 * found.facts["macs_before"]
    assert found.sha256 != halved.sha256
    again = pruned(bench, tmp_path / "other", to=Goal(macs=0.5), importance=importance)
    assert again.sha256 == found.sha256
    seeded = pruned(bench, tmp_path / "store", ("seed=1",), to=Goal(macs=0.5), importance=importance, reconstruct=False)
    unseeded = pruned(bench, tmp_path / "store", to=Goal(macs=0.5), importance=importance, reconstruct=False)
    assert (seeded.sha256 == unseeded.sha256) == (importance == "magnitude")


def test_repair_brings_the_answers_back_to_the_teachers(bench: Path, tmp_path: Path) -> None:
    texts = [row["text"] for row in review_rows(24, split="eval")]
    wanted = answers(bench / "model", texts)
    losses = {}
    for reconstruct in (False, True):
        found = pruned(bench, tmp_path / "store", sizes=Sizes(intermediate_sizes=40), reconstruct=reconstruct)
        losses[reconstruct] = float((answers(found.path, texts) - wanted).square().mean())
    assert losses[True] < 0.7 * losses[False]


def test_rearranged_units_are_taken_only_where_they_are_better(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {0: Units((0,), tuple(range(8))), 1: Units((1,), tuple(range(8)))}
    monkeypatch.setattr(cut, "rearrange", lambda kept, found: other)
    for number, judged in enumerate(([1.0, 0.5], [0.5, 1.0])):
        left = iter(judged)
        monkeypatch.setattr(cut, "mean_loss", lambda *arguments, left=left: next(left))
        found = pruned(bench, tmp_path / str(number), sizes=Sizes(heads=2, intermediate_sizes=16))
        assert shape(found).heads == ((1, 1) if number == 0 else (2, 2))


def test_samples_judge_on_rows_that_repair_does_not_see(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, repaired, judged = [], [], []
    real_draw, real_reconstruct, real_loss = running.draw, cut.reconstruct, cut.mean_loss

    def noting(examples: Any, *arguments: Any) -> Any:
        indices: list[list[int]] = []
        batch = examples.batch
        object.__setattr__(examples, "batch", lambda part: indices.append(list(part)) or batch(part))
        found = real_draw(examples, *arguments)
        drawn.append((found, indices, examples))
        return found

    monkeypatch.setattr(running, "draw", noting)
    monkeypatch.setattr(cut, "reconstruct", lambda *a, **options: repaired.append(a[3]) or real_reconstruct(*a, **options))
    monkeypatch.setattr(cut, "mean_loss", lambda *a: judged.append(a[1]) or real_loss(*a))
    overrides = (f"data.transfer={bench}/data/transfer.csv",)
    pruned(bench, tmp_path / "store", overrides, sizes=Sizes(heads=2), samples=40)
    ((samples, indices, examples),) = drawn
    fit, judge = indices[: len(samples.fit)], indices[len(samples.fit) :]
    assert (sum(map(len, fit)), sum(map(len, judge))) == (32, 8)
    assert len({index for part in indices for index in part}) == 40
    assert repaired and all(batches is samples.fit for batches in repaired)
    assert judged and all(batches is samples.judge for batches in judged)
    model = load_model(bench / "model", TASKS[0])
    for part, batch in zip(indices, [*samples.fit, *samples.judge], strict=True):
        with torch.no_grad():
            answers = model(**{name: value for name, value in batch.items() if name != "labels"}).logits.argmax(dim=-1)
        for row, index in enumerate(part):  # where a row has no label, the teacher's answer stands for it
            own = Examples.batch(examples, [index])["labels"]
            wanted = int(own) if index < 48 else int(answers[row])
            assert (int(own) == IGNORED) == (index >= 48)
            assert int(batch["labels"][row]) == wanted


def test_rows_without_labels_have_the_teachers_answer_at_every_step(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a stage that gave the model another vocabulary and spoilt it."""
    seen, real = [], running.cut

    def spoiling(stage: Any, model: Any, costs: Any, limit: float, samples: Any, *arguments: Any) -> Any:
        found = real(stage, model, costs, limit, samples, *arguments)
        seen.append(torch.cat([batch["labels"] for batch in (*samples.fit, *samples.judge)]))
        found.classifier.bias.data[0] += 1e3  # from here on it answers the same to every text
        return found

    monkeypatch.setattr(running, "cut", spoiling)
    overrides = (f"data.transfer={bench}/data/transfer.csv", "data.train=null")
    first = Prune(vocabulary=VocabularyCut(), positions=40)
    second = Prune(block=8, to=Goal(macs=0.5), steps=2, recover=Recovery(epochs=0.1))
    run(bench, tmp_path / "store", first, second, overrides=overrides)
    before, after = seen
    wanted = answers(bench / "model", [row["text"] for row in review_rows(80)[48:]]).argmax(dim=-1)
    assert sorted(before.tolist()) == sorted(wanted.tolist()) and len(set(before.tolist())) == 2
    assert torch.equal(before, after)


def test_batches_are_bounded_by_their_tokens_too() -> None:
    lengths = [*range(1, 101), *[512] * 20]
    found = list(cut.batches(range(len(lengths)), lengths))
    assert [index for part in found for index in part] == list(range(len(lengths)))
    assert max(map(len, found)) == 32
    assert all(len(part) * max(lengths[index] for index in part) <= 4096 for part in found)
    assert [len(part) for part in found[-2:]] == [8, 8], "of the longest texts"
    assert list(cut.batches([0, 1], [9000, 9000])) == [[0], [1]]
    assert list(cut.batches([], [])) == []


def test_one_example_is_enough(bench: Path, tmp_path: Path) -> None:
    assert pruned(bench, tmp_path / "store", to=Goal(macs=0.5), samples=1).facts["macs"] > 0


GRADUAL = {"to": Goal(macs=0.3), "steps": 3, "recover": RECOVER}
KEEP = {"to": Goal(keep=0.9), "recover": RECOVER}


@dataclass(frozen=True)
class Gradual:
    """The tiny model pruned in three steps without a kill, the shape after each step, and the seed of each recovery."""

    artifact: Artifact
    shapes: list[Shape]
    seeds: list[int]


@pytest.fixture(scope="module")
def gradual(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Gradual:
    shapes: list[Shape] = []
    seeds: list[int] = []
    real, real_learn = running.cut, running.learn

    def noting(stage: Any, model: Any, *arguments: Any) -> Any:
        smaller = real(stage, model, *arguments)
        shapes.append(shape_of(smaller))
        return smaller

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "cut", noting)
        patch.setattr(
            running, "learn", lambda *given, **options: seeds.append(options["seed"]) or real_learn(*given, **options)
        )
        return Gradual(pruned(bench, tmp_path_factory.mktemp("gradual"), **GRADUAL), shapes, seeds)


def test_steps_prune_a_little_and_recover(gradual: Gradual, bench: Path, tmp_path: Path) -> None:
    lengths = eval_lengths(bench)
    shares = [mean_macs(left, lengths) / mean_macs(Shape(32, 8, (4, 4), (64, 64)), lengths) for left in gradual.shapes]
    for number, share in enumerate(shares, start=1):
        assert 0.7 * 0.3 ** (number / 3) < share <= 0.3 ** (number / 3)
    assert gradual.seeds == [1, 2], "the last step leaves recovery to the distill stage"
    assert gradual.shapes[-1] == shape(gradual.artifact)
    at_once = pruned(bench, tmp_path / "store", to=Goal(macs=0.3))
    assert at_once.sha256 != gradual.artifact.sha256


@pytest.mark.parametrize("settings", [GRADUAL, KEEP], ids=["steps", "keep"])
def test_prune_ends_with_the_same_bits_when_it_was_killed_again_and_again(
    settings: dict[str, Any], gradual: Gradual, bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "MAX_STEPS", 3)
    wanted = gradual.artifact if settings is GRADUAL else pruned(bench, tmp_path / "calm", **settings)
    draw, kills, found = random.Random(1), 0, None
    while found is None:
        with monkeypatch.context() as patch:
            if kills % 3 == 2:  # between two steps: what recovery left is there, what it made is not
                kill_after(patch, finished, "save_model", 1)
            else:
                kill_after(patch, learn, "loss", draw.randint(2, 5))
            try:
                found = pruned(bench, tmp_path / "stormy", **settings)
            except Killed:
                kills += 1
    assert kills >= 3
    assert found.sha256 == wanted.sha256
    assert found.facts == wanted.facts
    assert list((tmp_path / "stormy" / "work").glob("*/*")) == []


def test_finished_steps_are_found_again(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts, settings = counted(monkeypatch, running, "cut"), {**GRADUAL, "steps": 2}
    killed_store(bench, tmp_path / "store", running, "trim", 0, settings)
    assert len(cuts) == 2
    pruned(bench, tmp_path / "store", **settings)
    assert len(cuts) == 2


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def flipped(file: Path) -> None:
    """A bit of the last weight, which can be read as well as any other."""
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 64]))


def killed_store(bench: Path, store: Path, module: Any, name: str, calls: int, settings: dict[str, Any]) -> Path:
    """A store with the work of a run that was killed when a function had been called so often."""
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, module, name, calls)
        with pytest.raises(Killed):
            pruned(bench, store, **settings)
    return store


ONE_STEP: dict[str, Any] = {"to": Goal(keep=0.1), "recover": Recovery(epochs=0.1, batch_size=16)}


@pytest.fixture(scope="module")
def one_step(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artifact]:
    """The store of a run that was killed after its only step, and the result of one that was not."""
    folder = tmp_path_factory.mktemp("one-step")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "MAX_STEPS", 1)
        return killed_store(bench, folder / "killed", running, "trim", 0, ONE_STEP), pruned(bench, folder / "calm", **ONE_STEP)


@pytest.mark.parametrize("damage", [truncated, zeroed, Path.unlink, flipped])
@pytest.mark.parametrize("name", ["step-1/model.safetensors", "step-1/config.json", "score-1.json"])
def test_step_that_a_power_cut_damaged_is_done_again(
    name: str,
    damage: Callable[[Path], None],
    one_step: tuple[Path, Artifact],
    bench: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "MAX_STEPS", 1)
    store, calm = Path(shutil.copytree(one_step[0], tmp_path / "store")), one_step[1]
    (file,) = (store / "work").glob(f"*/{name}")
    damage(file)
    cuts = counted(monkeypatch, running, "cut")
    assert pruned(bench, store, **ONE_STEP).sha256 == calm.sha256
    assert len(cuts) == (0 if name.endswith("1.json") else 1)


@pytest.fixture(scope="module")
def recovering(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a gradual run that was killed in its first recovery; do not write into it."""
    return killed_store(bench, tmp_path_factory.mktemp("recovering"), learn, "loss", 2, GRADUAL)


@pytest.mark.parametrize("damage", [truncated, zeroed, Path.unlink, None])
def test_recovery_goes_on_with_the_model_that_it_began_with(
    damage: Callable[[Path], None] | None,
    recovering: Path,
    gradual: Gradual,
    bench: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cut is kept: another one, by a table that was measured anew, would not fit the checkpoint."""
    store = Path(shutil.copytree(recovering, tmp_path / "store"))
    (work,) = (store / "work").iterdir()
    assert {"cut-1", "recover-1"} == {entry.name for entry in work.iterdir()}
    if damage:
        damage(work / "cut-1" / "model.safetensors")
    cuts = counted(monkeypatch, running, "cut")
    assert pruned(bench, store, **GRADUAL).sha256 == gradual.artifact.sha256
    assert len(cuts) == (3 if damage else 2)


def test_keep_goal_stops_before_the_score_falls_too_far(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.9, 0.9, 0.85, 0.82, 0.80])  # the teacher's, then each step's
    shapes: list[Shape] = []

    def score(model: Any, data: Any, serving: Any, metric: Any) -> float:
        shapes.append(shape_of(model))
        return next(scores)

    monkeypatch.setattr(running, "score", score)
    quick = Recovery(epochs=0.1, batch_size=16)
    found = pruned(bench, tmp_path / "store", to=Goal(keep=0.9), recover=quick)
    assert found.facts["score_wanted"] == 0.81
    assert found.facts["path"] == [
        {"macs_share": 0.8, "score": 0.9},
        {"macs_share": 0.64, "score": 0.85},
        {"macs_share": 0.512, "score": 0.82},
        {"macs_share": 0.4096, "score": 0.8},
    ]
    assert shape(found) == shapes[3], "the last one that was good enough"
    assert found.facts["macs"] <= 0.512 * found.facts["macs_before"]


@pytest.mark.parametrize("fits", [True, False])
def test_keep_goal_that_is_missed_leaves_the_model_as_it_came(
    fits: bool, bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, notes = iter([0.9, 0.3]), []
    monkeypatch.setattr(running, "score", lambda *arguments: next(scores))
    monkeypatch.setattr(Silent, "note", lambda self, text: notes.append(text))
    if not fits:
        monkeypatch.setattr(running, "cut", nothing_fits)
    found = pruned(bench, tmp_path / "store", to=Goal(keep=0.99), recover=Recovery(epochs=0.1))
    assert shape(found) == Shape(32, 8, (4, 4), (64, 64))
    texts = [row["text"] for row in review_rows(24, split="eval")]
    torch.testing.assert_close(answers(found.path, texts), answers(bench / "model", texts))
    assert found.facts["path"] == ([{"macs_share": 0.8, "score": 0.3}] if fits else [])
    assert found.facts["score_wanted"] == pytest.approx(0.891)
    assert any("nothing was removed" in note and ("lower `to.keep`" in note) == fits for note in notes)
    assert any("costs too much" in note for note in notes) != fits


def nothing_fits(*arguments: Any) -> Any:
    raise cut.NothingFits("prune: costs too much")


def test_keep_goal_counts_the_metric_that_it_names(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "MAX_STEPS", 1)
    data = bench / "data" / "eval.csv"
    rows = review_rows(24, split="eval")
    uneven = [row for row in rows if row["label"] == "positive"] + [row for row in rows if row["label"] == "negative"][:2]
    write_table(tmp_path / data.name, uneven)  # where the two metrics differ
    wanted = {}
    for metric in (None, "accuracy", "macro_f1"):
        goal, overrides = Goal(keep=0.5, metric=metric), (f"data.eval={tmp_path / data.name}",)
        found = pruned(bench, tmp_path / str(metric), overrides, to=goal, recover=Recovery(epochs=0.1))
        wanted[metric] = (found.facts["score_wanted"], found.facts["path"])
    assert wanted[None] == wanted["accuracy"] != wanted["macro_f1"]


def test_keep_goal_ends_where_nothing_smaller_is_left(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "score", lambda *arguments: 0.9)
    found = pruned(bench, tmp_path / "store", to=Goal(keep=0.5), block=64, recover=Recovery(epochs=0.1))
    assert shape(found) == Shape(32, 8, (1,), (64,))
    assert len(found.facts["path"]) < running.MAX_STEPS


def test_keep_goal_does_not_hide_a_failed_recovery(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "score", lambda *arguments: 0.9)
    calls = 0
    real = learn.loss

    def broken(*arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return real(*arguments) * (float("nan") if calls > 2 else 1.0)

    monkeypatch.setattr(learn, "loss", broken)
    with pytest.raises(StageError, match="the loss became nan"):
        pruned(bench, tmp_path / "store", to=Goal(keep=0.5), recover=Recovery(epochs=0.1))


def test_goal_that_nothing_fits_is_refused(bench: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="costs more than the budget") as caught:
        pruned(bench, tmp_path / "store", to=Goal(macs=0.05), depth=2, block=64)
    assert "Ask for less" in str(caught.value.hint)


def answers(folder: Path, texts: list[str]) -> torch.Tensor:
    """Logits of a model folder for texts, by its own tokenizer."""
    model, tokenizer = load_model(folder, TASKS[0]), Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(32)
    with torch.no_grad():
        return torch.cat([model(input_ids=torch.tensor([tokenizer.encode(text).ids])).logits for text in texts])


def test_vocabulary_and_positions_change_no_answer_on_the_examples(bench: Path, tmp_path: Path) -> None:
    found = pruned(bench, tmp_path / "store", vocabulary=VocabularyCut(), positions=32)
    config = json.loads((found.path / "config.json").read_text())
    before = len(Tokenizer.from_file(str(bench / "model" / "tokenizer.json")).get_vocab())
    after = len(Tokenizer.from_file(str(found.path / "tokenizer.json")).get_vocab())
    assert after < before and config["vocab_size"] == after == len(tensors(found)[TABLE])
    assert config["max_position_embeddings"] == 32 == len(tensors(found)[POSITIONS])
    assert json.loads((found.path / "tokenizer_config.json").read_text())["model_max_length"] == 32
    assert len((found.path / "vocab.txt").read_text().splitlines()) == after
    texts = [row["text"] for row in review_rows(48)]
    torch.testing.assert_close(answers(found.path, texts), answers(bench / "model", texts), atol=1e-5, rtol=1e-5)
    assert torch.isfinite(answers(found.path, ["lamp quokka \u2603"])).all()
    assert shape(found) == Shape(32, 8, (4, 4), (64, 64))


def test_vocabulary_counts_the_rows_without_labels_too(bench: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", [{"text": "a good soup", "label": "positive"}, {"text": "bad", "label": "negative"}])
    write_table(tmp_path / "transfer.csv", [{"text": "an awful lamp"}, {"text": "very very not it"}])
    overrides = (f"data.train={tmp_path}/train.csv", f"data.transfer={tmp_path}/transfer.csv", "data.calibration=null")
    seldom = pruned(bench, tmp_path / "store", overrides, vocabulary=VocabularyCut())
    often = pruned(bench, tmp_path / "store", overrides, vocabulary=VocabularyCut(min_count=2))
    words = {path: set(Tokenizer.from_file(str(path / "tokenizer.json")).get_vocab()) for path in (seldom.path, often.path)}
    assert {"good", "soup", "bad", "awful", "lamp", "very", "not", "it"} <= words[seldom.path]
    assert not {"film", "app", "fine", "and"} & words[seldom.path]
    assert {word for word in words[often.path] if word.isalpha() and len(word) > 1} == {"very"}


def test_positions_alone_lower_what_the_tokenizer_allows(bench: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(bench / "model", tmp_path / "model"))
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(64, stride=40)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(model / "tokenizer.json"))
    file = model / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "padding": "max_length", "max_length": 64}))
    no_examples = ("data.train=null", "data.calibration=null")
    found = pruned(bench, tmp_path / "store", (f"model={model}", *no_examples), positions=40)
    lowered = Tokenizer.from_file(str(found.path / "tokenizer.json"))
    assert len(lowered.encode("a " * 60).ids) == 40 == len(lowered.encode("a").ids)
    config = json.loads((found.path / "tokenizer_config.json").read_text())
    assert (config["padding"], config["max_length"], config["model_max_length"]) == ("max_length", 40, 40)
    assert len(tensors(found)[POSITIONS]) == 40 and len(tensors(found)[TABLE]) == lowered.get_vocab_size()


def test_speedup_goal_is_met_by_the_table(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Table:
        """Made-up milliseconds."""

        rest = 1.0
        whole = 11.0
        """More than the sum, 10.2: large models are slower than their parts."""

        def attention(self, heads: int) -> float:
            return 0.5 + 0.5 * heads

        def ffn(self, neurons: int) -> float:
            return 0.1 + neurons / 32

    asked: list[Any] = []
    monkeypatch.setattr(Compression, "_layer_costs", lambda self, *arguments: asked.append(arguments) or Table())
    found = pruned(bench, tmp_path / "store", to=Goal(speedup=2))
    assert [arguments[:2] for arguments in asked] == [(Shape(32, 8, (4, 4), (64, 64)), eval_lengths(bench))]
    left = shape(found)
    after = 1 + sum(0.5 + 0.5 * heads for heads in left.heads) + sum(0.1 + size / 32 for size in left.intermediate_sizes)
    assert found.facts["predicted_ms_before"] == pytest.approx(11)
    assert found.facts["predicted_ms"] == pytest.approx(after) and after <= 5.5
    assert found.facts["predicted_speedup"] == pytest.approx(11 / after, abs=1e-3)
    with pytest.raises(StageError, match=r"a speed-up of 12 cannot be had: without any layer it would be 11\.0"):
        pruned(bench, tmp_path / "store", to=Goal(speedup=12))


def slow_table(slower: float = 1.0, **changes: Any) -> LatencyTable:
    """A made-up table in which many heads are this much slower."""
    return LatencyTable(
        runtime="onnxruntime",
        precision="int8",
        threads=1,
        hidden_size=32,
        head_size=8,
        lengths=(8, 32),
        heads=(1, 4),
        neurons=(8, 64),
        attention_ms=((0.1, 0.4 * slower), (0.2, 0.8 * slower)),
        ffn_ms=((0.1, 0.4), (0.2, 0.8)),
        rest_ms=(0.01, 0.02),
        whole_ms=(3.0, 6.0),
        **changes,
    )


@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_table_is_measured_at_the_lengths_that_the_target_serves(
    padding: str, bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = slow_table(spread=0.9)
    asked: list[dict[str, Any]] = []
    notes: list[str] = []
    monkeypatch.setattr(layer_latency, "measure_table", lambda shape, **options: asked.append(options) or table)
    monkeypatch.setattr(Silent, "note", lambda self, text: notes.append(text))
    found = pruned(bench, tmp_path / "store", (f"targets.0.padding={padding}",), to=Goal(speedup=2))
    assert found.facts["predicted_speedup"] >= 2
    (options,) = asked
    assert sorted(options["lengths"]) == (sorted(eval_lengths(bench)) if padding == "longest" else [32] * 24)
    assert not options["remeasure"]
    assert (options["precision"], options["target"].padding) == ("int8", padding)
    assert any("busy machine (spread 90%)" in note and "--remeasure" in note for note in notes)


def tables(monkeypatch: pytest.MonkeyPatch, *given: LatencyTable) -> list[bool]:
    """Lets each measurement return the next table. Returns the `remeasure` of each, as they come."""
    left, asked = iter(given), []
    monkeypatch.setattr(
        layer_latency, "measure_table", lambda shape, **options: asked.append(options["remeasure"]) or next(left)
    )
    return asked


FAST = {"to": Goal(speedup=3), "steps": 2, "recover": RECOVER}
OLD, NEW = slow_table(), slow_table(9.0)


@pytest.fixture(scope="module")
def calm(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The results of undisturbed runs with the old table and with the new one."""
    with pytest.MonkeyPatch.context() as patch:
        tables(patch, OLD, NEW)
        return {name: pruned(bench, tmp_path_factory.mktemp(name), **FAST) for name in ("old", "new")}


def test_killed_steps_go_on_with_the_table_that_they_began_with(
    calm: dict[str, Artifact], bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then the machine may have another fingerprint, and so another table."""
    tables(monkeypatch, OLD, NEW)
    found = pruned(bench, killed_store(bench, tmp_path / "store", learn, "loss", 2, FAST), **FAST)
    assert (found.sha256, found.facts) == (calm["old"].sha256, calm["old"].facts)


@pytest.mark.parametrize("killed", [False, True])
def test_table_that_is_measured_again_chooses_again(
    killed: bool, calm: dict[str, Artifact], bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compressed(*, remeasure: bool) -> Artifact:
        inputs = inputs_of(bench, Prune(block=8, **FAST))
        compression = Compression(inputs, ArtifactStore(tmp_path / "store"), Silent(), remeasure=remeasure)
        compression.store.prepare()
        compression.run_stages()
        return compression.made[0]

    asked = tables(monkeypatch, OLD, NEW)
    with monkeypatch.context() as patch:
        if killed:
            kill_after(patch, running, "trim", 0)
        with pytest.raises(Killed) if killed else contextlib.nullcontext():
            compressed(remeasure=False)
    found = compressed(remeasure=True)
    assert asked == [False, True]
    assert (found.sha256, found.facts) == (calm["new"].sha256, calm["new"].facts)
    assert compressed(remeasure=False).sha256 == found.sha256, "kept from then on"


def recoveries(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, dict[str, Any]]]:
    """Examples and facts of each recovery, as they come."""
    found, real = [], running.learn

    def noting(*arguments: Any, **options: Any) -> dict[str, Any]:
        facts = real(*arguments, **options)
        found.append((len(arguments[3]), facts))
        return facts

    monkeypatch.setattr(running, "learn", noting)
    return found


def test_recovery_may_stop_early(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = recoveries(monkeypatch)
    stop = EarlyStop(share=0.3, every=0.5, patience=1)
    recover = RECOVER.model_copy(update={"early_stopping": stop, "epochs": 50.0, "learning_rate": 0.5})
    pruned(bench, tmp_path / "store", to=Goal(macs=0.5), steps=2, recover=recover)
    ((_, facts),) = found
    assert facts["watched_loss"] > 0 and facts["steps"] < 50 * 34 // 16, "no look is better than the first for long"


def test_recovery_learns_from_made_up_rows_too(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = recoveries(monkeypatch)
    recover = RECOVER.model_copy(update={"augment": 2})
    pruned(bench, tmp_path / "store", to=Goal(macs=0.5), steps=2, recover=recover)
    ((examples, facts),) = found
    assert (examples, facts["steps"]) == (3 * 48, 9)


def test_pruned_model_is_pruned_again(bench: Path, tmp_path: Path) -> None:
    first, second = Prune(sizes=Sizes(layers=(1,), heads=3)), Prune(to=Goal(macs=0.6), block=8)
    made = run(bench, tmp_path / "store", first, second)
    assert made[1].facts["macs_before"] == made[0].facts["macs"]
    assert made[1].facts["macs"] <= 0.6 * made[0].facts["macs"]
    assert json.loads((made[1].path / "config.json").read_text())["source_layers"] == [1]


def test_progress_has_a_title_for_each_part(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    real = Silent.step
    monkeypatch.setattr(Silent, "step", lambda self, title, *rest: titles.append(title) or real(self, title, *rest))
    pruned(bench, tmp_path / "store", to=Goal(macs=0.3), steps=2, recover=RECOVER)
    parts = ["weigh heads and neurons", "weigh layers", "remove and repair"]
    assert [title for title in titles if not title.startswith(("read", "compare the tokenizer"))] == [
        *parts,
        "run the teacher",
        "recover (1)",
        *parts,
    ]
