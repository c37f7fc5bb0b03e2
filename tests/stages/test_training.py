"""Training resumes to the same bits from every step, forgives a damaged checkpoint and stops when the loss is no number."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils import set_seed
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as serialize_tensors

from edgebert.core.progress import Silent
from edgebert.errors import StageError
from edgebert.models.load import load_model
from edgebert.stages.checkpoint import BEST, CHECKPOINT
from edgebert.stages.training import EarlyStopping, Schedule, batches_from, epoch_batches, train
from edgebert.tasks import TASKS
from edgebert.tasks.base import Encoded, collate

SCHEDULE = Schedule(
    epochs=2,
    batch_size=8,
    learning_rate=1e-3,
    weight_decay=0.01,
    warmup_share=0.1,
    seed=3,
    checkpoint_seconds=1e-9,  # after every step
)
STEPS = 6
LENGTHS = [4, 9, 5, 12, 7, 7, 3, 11, 6, 8, 10, 5, 9, 4, 12, 6, 7, 8, 3, 5]
EXAMPLES = [
    Encoded(tuple(5 + (index * 7 + at) % 50 for at in range(length)), (0,) * length) for index, length in enumerate(LENGTHS)
]


def batch_of(indices: list[int]) -> dict[str, torch.Tensor]:
    """Some examples, padded, with labels."""
    arrays = collate([EXAMPLES[index] for index in indices], length=max(LENGTHS[index] for index in indices), pad_id=0)
    labels = torch.tensor([index % 2 for index in indices])
    return {**{name: torch.from_numpy(value) for name, value in arrays.items()}, "labels": labels}


class Killed(BaseException):
    """What a signal would do."""


def trained(
    model_dir: Path, work: Path, *, kill_at: int | None = None, schedule: Schedule = SCHEDULE, nan_at: int | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, Any], int]:
    """Trains a fresh copy of the model. Returns its weights, the facts and how many steps were done."""
    work.mkdir(exist_ok=True)
    set_seed(0)
    model = load_model(model_dir, TASKS[0], ("no", "yes"))
    done = 0

    def loss_of(module: Any, indices: list[int]) -> torch.Tensor:
        nonlocal done
        if done == kill_at:
            raise Killed
        done += 1
        loss: torch.Tensor = module(**batch_of(indices)).loss
        return loss * float("nan") if done - 1 == nan_at else loss

    facts = train(model, lengths=LENGTHS, loss_of=loss_of, schedule=schedule, work=work, progress=Silent(), title="training")
    assert not model.training
    return {name: value.clone() for name, value in model.state_dict().items()}, facts, done


@pytest.fixture(scope="module")
def whole(model_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What an undisturbed run ends with."""
    weights, facts, done = trained(model_template, tmp_path_factory.mktemp("whole"))
    assert done == STEPS
    return weights, facts


def same_bits(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_train_changes_the_weights_and_reports_its_steps(whole: Any, model_template: Path) -> None:
    weights, facts = whole
    set_seed(0)
    assert not same_bits(weights, load_model(model_template, TASKS[0], ("no", "yes")).state_dict())
    assert facts["steps"] == STEPS
    assert 0 < facts["train_loss"] < 10


@pytest.mark.parametrize("step", range(STEPS))
def test_train_ends_with_the_same_bits_when_it_was_killed_before_a_step_and_resumed(
    step: int, whole: Any, model_template: Path, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        trained(model_template, tmp_path / "work", kill_at=step)
    weights, facts, done = trained(model_template, tmp_path / "work")
    assert done == STEPS - step
    assert same_bits(weights, whole[0])
    assert facts == whole[1]


def test_train_ends_with_the_same_bits_when_it_was_killed_many_times(whole: Any, model_template: Path, tmp_path: Path) -> None:
    for _ in range(STEPS - 1):
        with pytest.raises(Killed):
            trained(model_template, tmp_path / "work", kill_at=1)
    weights, facts, done = trained(model_template, tmp_path / "work")
    assert done == 1
    assert same_bits(weights, whole[0])
    assert facts == whole[1]


def test_train_gives_other_weights_when_the_seed_is_another(whole: Any, model_template: Path, tmp_path: Path) -> None:
    weights, _, _ = trained(model_template, tmp_path / "work", schedule=dataclasses.replace(SCHEDULE, seed=4))
    assert not same_bits(weights, whole[0])


def test_train_takes_every_seed_that_a_recipe_allows(model_template: Path, tmp_path: Path) -> None:
    largest = dataclasses.replace(SCHEDULE, seed=2**32 - 1, epochs=0.1)
    assert trained(model_template, tmp_path / "work", schedule=largest)[1]["steps"] == 1


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut in its header": lambda data: data[:20],
    "cut in half": lambda data: data[: len(data) // 2],
    "cut by a byte": lambda data: data[:-1],
    "zeros": lambda data: bytes(len(data)),
    "another file": lambda data: b"not a checkpoint",
    "a bit of a weight": lambda data: data[:-9] + bytes([data[-9] ^ 64]) + data[-8:],
    "another program's": lambda data: serialize_tensors({"weight": torch.zeros(2)}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_train_starts_again_when_the_checkpoint_is_damaged(
    damage: Callable[[bytes], bytes], whole: Any, model_template: Path, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        trained(model_template, tmp_path / "work", kill_at=2)
    checkpoint = tmp_path / "work" / CHECKPOINT
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    weights, _, done = trained(model_template, tmp_path / "work")
    assert done == STEPS
    assert same_bits(weights, whole[0])


def test_train_leaves_no_checkpoint_half_written(model_template: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        trained(model_template, tmp_path / "work", kill_at=2)
    assert [file.name for file in (tmp_path / "work").iterdir()] == [CHECKPOINT]


def test_train_writes_no_checkpoint_when_it_is_done_before_one_is_due(model_template: Path, tmp_path: Path) -> None:
    trained(model_template, tmp_path / "work", schedule=dataclasses.replace(SCHEDULE, checkpoint_seconds=3600, epochs=0.1))
    assert list((tmp_path / "work").iterdir()) == []


def test_train_names_the_step_when_the_loss_is_not_a_number(model_template: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=f"the loss became nan at step 3 of {STEPS}") as caught:
        trained(model_template, tmp_path / "work", nan_at=2)
    assert "learning_rate" in str(caught.value.hint)


def test_train_sums_the_gradients_of_accumulated_batches_to_those_of_one(
    model_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients: list[torch.Tensor] = []
    real = torch.nn.utils.clip_grad_norm_

    def noting(parameters: Any, *arguments: Any, **options: Any) -> Any:
        parameters = list(parameters)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]).clone())
        return real(parameters, *arguments, **options)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", noting)
    for batch_size, accumulate in ((20, 1), (10, 2), (5, 4), (10, 3)):
        schedule = dataclasses.replace(SCHEDULE, epochs=1, batch_size=batch_size, accumulate=accumulate)
        model = load_model(model_template, TASKS[0], ("no", "yes"))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        work = tmp_path / str(accumulate)
        work.mkdir()

        def loss_of(module: Any, indices: list[int]) -> torch.Tensor:
            loss: torch.Tensor = module(**batch_of(indices)).loss
            return loss

        facts = train(
            model, lengths=LENGTHS, loss_of=loss_of, schedule=schedule, work=work, progress=Silent(), title="training"
        )
        assert facts["steps"] == 20 / batch_size
    first, *others = gradients
    assert len(others) == 3
    for other in others:
        torch.testing.assert_close(other, first, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("total", "windows"), [(7, [3, 3, 3, 3, 3, 3, 1]), (6, [3] * 6), (2, [2, 2])])
def test_last_window_has_the_batches_that_are_left(total: int, windows: list[int]) -> None:
    schedule = dataclasses.replace(SCHEDULE, accumulate=3)
    assert [schedule.window(step, total) for step in range(total)] == windows


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(b"")], ids=["gone", "damaged"])
def test_train_takes_no_best_weights_from_another_beginning(damage: Callable[[Path], object], tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    (tmp_path / BEST).write_bytes(serialize_tensors({"weight": torch.full((1, 2), 7.0)}))
    (tmp_path / CHECKPOINT).write_bytes(b"")
    damage(tmp_path / CHECKPOINT)
    train(
        model,
        lengths=[1, 1],
        loss_of=lambda module, indices: module.weight.square().sum(),
        schedule=dataclasses.replace(SCHEDULE, epochs=1),
        work=tmp_path,
        progress=Silent(),
        title="training",
        early_stopping=EarlyStopping(lambda module: float("nan"), every=1, patience=3),
    )
    assert float(model.weight.detach().abs().max()) < 5


def watching(model: torch.nn.Linear, work: Path, *, kill_at: int | None = None) -> tuple[torch.Tensor, dict[str, Any], int]:
    """Trains with a look after each of 6 steps; the third is the best. Returns the weights, the facts and the steps done."""
    done = 0

    def loss_of(module: Any, indices: list[int]) -> torch.Tensor:
        nonlocal done
        if done == kill_at:
            raise Killed
        done += 1
        loss: torch.Tensor = (module.weight - 1).square().sum() + module.bias.square().sum()
        return loss

    def watched(module: Any) -> float:
        return float((module.weight.flatten()[0] - 0.3).abs())

    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    facts = train(
        model,
        lengths=[1] * 6,
        loss_of=loss_of,
        schedule=dataclasses.replace(SCHEDULE, epochs=1, batch_size=1, learning_rate=0.2, warmup_share=0),
        work=work,
        progress=Silent(),
        title="training",
        early_stopping=EarlyStopping(watched, every=1, patience=9),
    )
    return model.weight.detach().clone(), facts, done


BEST_DAMAGES: dict[str, Callable[[Path], object]] = {
    "gone": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "another program's": lambda file: file.write_bytes(b"not weights"),
}


@pytest.mark.parametrize("damage", BEST_DAMAGES.values(), ids=BEST_DAMAGES)
def test_train_starts_again_when_the_best_weights_of_its_checkpoint_cannot_be_read(
    damage: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / "calm").mkdir()
    wanted, facts, _ = watching(torch.nn.Linear(2, 1), tmp_path / "calm")
    with pytest.raises(Killed):
        watching(torch.nn.Linear(2, 1), tmp_path, kill_at=5)
    damage(tmp_path / BEST)
    found, again, done = watching(torch.nn.Linear(2, 1), tmp_path)
    assert done == 6
    assert torch.equal(found, wanted) and again == facts


@pytest.mark.parametrize("file", [CHECKPOINT, BEST])
def test_train_starts_again_when_the_checkpoint_is_another_models(file: str, tmp_path: Path) -> None:
    wide, narrow = tmp_path / "wide", tmp_path / "narrow"
    for size, work in ((3, wide), (2, narrow)):
        work.mkdir()
        with pytest.raises(Killed):
            watching(torch.nn.Linear(size, 1), work, kill_at=5)
    (wide / file).replace(narrow / file)
    assert watching(torch.nn.Linear(2, 1), narrow)[2] == 6


def test_train_starts_again_when_the_checkpoint_trained_other_parameters(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        watching(torch.nn.Linear(2, 1), tmp_path, kill_at=5)
    model = torch.nn.Linear(2, 1)
    model.weight.requires_grad_(False)  # the first that is trained is now the bias
    assert watching(model, tmp_path)[2] == 6


def test_train_syncs_a_checkpoint_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    put: dict[str, list[bool]] = {}
    fsync, replace = os.fsync, Path.replace

    def noting_fsync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def noting_replace(self: Path, target: Path) -> Path:
        put.setdefault(target.name, []).append(self.stat().st_ino in synced)
        synced.clear()
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    watching(torch.nn.Linear(2, 1), tmp_path)
    assert put.keys() == {BEST, CHECKPOINT}
    assert all(was_synced for replaced in put.values() for was_synced in replaced)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_train_looks_at_the_watched_loss_in_the_precision_that_it_trains_in(precision: Any, tmp_path: Path) -> None:
    seen: dict[str, set[torch.dtype]] = {"trained": set(), "watched": set()}

    def loss_of(module: Any, name: str) -> torch.Tensor:
        found: torch.Tensor = module(torch.ones(1, 2))
        seen[name].add(found.dtype)
        return found.float().square().sum()

    train(
        torch.nn.Linear(2, 1),
        lengths=[1, 1],
        loss_of=lambda module, indices: loss_of(module, "trained"),
        schedule=dataclasses.replace(SCHEDULE, epochs=1, precision=precision),
        work=tmp_path,
        progress=Silent(),
        title="training",
        early_stopping=EarlyStopping(lambda module: float(loss_of(module, "watched")), every=1, patience=3),
    )
    assert seen["trained"] == seen["watched"] == {torch.bfloat16 if precision == "bf16" else torch.float32}


schedules = st.builds(
    Schedule,
    epochs=st.floats(min_value=0.01, max_value=20),
    batch_size=st.integers(min_value=1, max_value=64),
    learning_rate=st.floats(min_value=1e-7, max_value=0.5),
    weight_decay=st.just(0.0),
    warmup_share=st.floats(min_value=0, max_value=0.99),
    seed=st.integers(min_value=0, max_value=2**32 - 1),
    checkpoint_seconds=st.just(60.0),
)


@given(schedule=schedules, examples=st.integers(min_value=1, max_value=300))
def test_rate_rises_to_the_learning_rate_and_falls_towards_zero(schedule: Schedule, examples: int) -> None:
    total = schedule.steps(examples)
    rates = [schedule.rate(step, total) for step in range(total)]
    peak = int(np.argmax(rates))
    assert rates[peak] == pytest.approx(schedule.learning_rate)
    assert all(0 < rate <= schedule.learning_rate * (1 + 1e-12) for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert schedule.rate(total, total) == pytest.approx(0.0) or total == 1


@given(schedule=schedules, examples=st.integers(min_value=1, max_value=300))
def test_steps_cover_the_epochs_and_are_at_least_one(schedule: Schedule, examples: int) -> None:
    per_epoch = -(-examples // schedule.batch_size)
    assert schedule.steps(examples) >= max(1, per_epoch * schedule.epochs * (1 - 1e-9))
    assert schedule.steps(examples) <= per_epoch * schedule.epochs + 1


@given(
    lengths=st.lists(st.integers(min_value=1, max_value=128), min_size=1, max_size=500),
    batch_size=st.integers(min_value=1, max_value=40),
    seed=st.integers(min_value=0, max_value=2**32 - 1),
    epoch=st.integers(min_value=0, max_value=9),
)
def test_epoch_batches_hold_every_example_once(lengths: list[int], batch_size: int, seed: int, epoch: int) -> None:
    batches = epoch_batches(lengths, batch_size, seed, epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert len(batches) == -(-len(lengths) // batch_size)
    assert batches == epoch_batches(lengths, batch_size, seed, epoch)


def test_epoch_batches_save_padding_and_differ_between_epochs_and_seeds() -> None:
    lengths = [int(length) for length in np.random.default_rng(0).integers(4, 128, 1600)]
    batches = epoch_batches(lengths, 16, seed=0, epoch=0)
    padded = sum(max(lengths[index] for index in batch) * len(batch) for batch in batches)
    assert padded < sum(lengths) * 1.1  # shuffled alone: 1.7 times
    assert batches != epoch_batches(lengths, 16, seed=0, epoch=1)
    assert batches != epoch_batches(lengths, 16, seed=1, epoch=0)


@given(schedule=schedules, examples=st.integers(min_value=1, max_value=80), data=st.data())
def test_batches_from_a_later_step_are_those_of_a_whole_run(schedule: Schedule, examples: int, data: st.DataObject) -> None:
    lengths, total = [1 + index % 7 for index in range(examples)], schedule.steps(examples)
    everything = list(batches_from(lengths, schedule, 0, total))
    assert len(everything) == total
    first = data.draw(st.integers(min_value=0, max_value=total))
    assert list(batches_from(lengths, schedule, first, total)) == everything[first:]
