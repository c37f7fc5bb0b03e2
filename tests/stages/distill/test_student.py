"""Students that a recipe describes: built of a larger model's weights, and of another family than their teacher's."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from stage_runs import inputs_of, make_bench, measurements, run, tensors
from tiny_families import family_named, tiny_batch, tiny_folder, tiny_model

from edgebert.compress.bundle_parts import _lineage_entry
from edgebert.errors import RecipeError, StageError
from edgebert.models.load import load_model, run_model
from edgebert.models.sentence_model import SentenceModel
from edgebert.models.sizes import with_sizes
from edgebert.models.surgery import shape_of
from edgebert.stages.base import ModelFacts
from edgebert.stages.distill import Distill
from edgebert.stages.distill.learn import at_words
from edgebert.stages.distill.pooled import pooled
from edgebert.stages.distill.student import Student, build, spread
from edgebert.stages.distill.teacher_outputs import RequestedOutputs, identity
from edgebert.stages.prune import Prune
from edgebert.tasks import TASKS, get_task
from edgebert.tasks.base import Encoded

EASY: dict[str, Any] = {"epochs": 1, "batch_size": 16, "learning_rate": 0.005}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    """The tiny BERT and its data; do not write into it."""
    return make_bench(tmp_path_factory.mktemp("student"), model_template)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa of two layers without a head, whose tokenizer is byte-level BPE."""
    return tiny_folder("roberta", "Model", tmp_path_factory.mktemp("roberta"))


GATED = ["deberta-v2", "modernbert", "nomic_bert", "gte"]


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "xlm-roberta", *GATED])
def test_a_student_is_made_of_evenly_spread_parts(name: str) -> None:
    family = family_named(name)
    model = tiny_model(family, layers=4)
    smaller = build(Student(layers=2, hidden=16), model)
    shape = shape_of(smaller)
    assert (shape.layers, shape.hidden_size, shape.heads, shape.intermediate_sizes) == (2, 16, (2, 2), (12, 12))
    assert type(smaller) is type(model) and smaller.config.model_type == family.model_type
    ours, theirs = smaller.state_dict(), model.state_dict()
    assert family.layer is not None
    start, query = f"{family.prefix}.{family.layers}", next(iter(family.layer.head_rows))
    hidden, columns = torch.tensor(spread(32, 16)), torch.tensor([*range(8, 16), *range(24, 32)])
    whole = theirs[f"{start}.1.{query}.weight"]
    assert torch.equal(ours[f"{start}.0.{query}.weight"][:16], whole[columns][:, hidden])
    up, blocks = next(iter(family.layer.neuron_rows.items()))
    neurons = torch.cat([torch.tensor(spread(24, 12)) + 24 * block for block in range(blocks)])
    assert torch.equal(ours[f"{start}.0.{up}.weight"], theirs[f"{start}.1.{up}.weight"][neurons][:, hidden])
    table = f"{family.prefix}.embeddings.{family.embedding.word}.weight"
    assert torch.equal(ours[table], theirs[table][:, hidden])
    assert run_model(smaller, tiny_batch(smaller, (5, 9)))["logits"].isfinite().all()


def test_a_student_of_all_parts_is_the_model() -> None:
    model = tiny_model(family_named("bert"))
    batch = tiny_batch(model, (5, 9))
    same = build(Student(layers=2, hidden=32, heads=4, intermediate=24), model)
    with torch.no_grad():
        assert torch.equal(run_model(same, batch)["logits"], run_model(model, batch)["logits"])


def test_heads_may_become_narrower_as_in_minilm() -> None:
    model = tiny_model(family_named("bert"))
    smaller = build(Student(hidden=16, heads=4), model)
    assert shape_of(smaller).head_size == 4
    name = "bert.encoder.layer.0.attention.self.key.bias"
    assert torch.equal(smaller.state_dict()[name], model.state_dict()[name][1::2])


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "more layers": ({"layers": 3}, "bert", "student.layers is 3, more than the 2 of the model"),
    "wider": ({"hidden": 64}, "bert", "student.hidden is 64, more than the 32"),
    "no multiple": ({"hidden": 18, "heads": 4}, "bert", "student.hidden is 18, no multiple of its 4 heads"),
    "wider heads": ({"hidden": 32, "heads": 2}, "bert", "would have a size of 16, more than the 8"),
    "layers that are shared": ({"layers": 1}, "albert", "cannot be built from a ALBERT"),
    "rotations of odd heads": ({"hidden": 12, "heads": 4}, "gte", "cannot be built: a head has the size 3"),
    "a bias that layers share": ({"hidden": 16}, "mpnet", "cannot be built from a MPNet, whose parts have sizes of their own"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_student_that_cannot_be_built_is_refused(fault: str) -> None:
    fields, family, message = FAULTS[fault]
    config = with_sizes(tiny_model(family_named(family)).config.to_dict())
    assert message in Student(**fields).faults(config)[0]


def test_tasks_of_tokens_need_the_teachers_tokens_unless_words_align() -> None:
    configs = {name: with_sizes(tiny_model(family_named(name)).config.to_dict()) for name in ("bert", "roberta")}
    stage = Distill(student=Student(folder="r"))
    for task in TASKS:
        facts = ModelFacts(configs["bert"], 32, None, {"r": configs["roberta"]}, task=task)
        refused = any("needs its teacher's tokens" in fault for fault in stage.faults(facts))
        assert refused == (task.of_tokens and task.name != "token-classification")
    related = Distill(student=Student(folder="r"), relations=1.0)
    facts = ModelFacts(configs["bert"], 32, None, {"r": configs["roberta"]}, task=get_task("text-classification"))
    assert any("`relations` compares tokens" in fault and "BPE" in fault for fault in related.faults(facts))
    assert stage.after(facts).config["model_type"] == "roberta"


def test_later_stages_know_that_the_student_has_another_tokenizer() -> None:
    configs = {name: with_sizes(tiny_model(family_named(name)).config.to_dict()) for name in ("bert", "roberta")}
    for task in (get_task("text-classification"), get_task("token-classification")):
        facts = ModelFacts(configs["bert"], 32, None, {"r": configs["roberta"]}, task=task)
        after = Distill(student=Student(folder="r")).after(facts)
        assert after.other_tokenizer and not Distill(student=Student(layers=1)).after(facts).other_tokenizer
        (fault,) = Distill(hidden=1.0).faults(after)
        assert "another tokenizer than its teacher" in fault
        recovered = Prune.model_validate({"to": {"keep": 0.9}, "block": 8}).faults(after)
        assert any(fault.startswith("recover: the student has another tokenizer") for fault in recovered)
    after = Distill(student=Student(folder="r")).after(
        ModelFacts(configs["bert"], 32, None, {"r": configs["roberta"]}, task=get_task("text-classification"))
    )
    assert Distill(hidden=0.0).faults(after) == []


def test_a_smaller_student_of_a_sentence_model_keeps_its_pooling() -> None:
    model = SentenceModel(tiny_model(family_named("bert"), "Model"), "cls", [], normalize=True)
    made = build(Student(layers=1), model)
    assert (made.pooling, made.normalize, made.config.num_hidden_layers) == ("cls", True, 1)


def test_the_key_of_a_teachers_outputs_has_the_options_of_the_task() -> None:
    def key(task: Any) -> Any:
        examples: Any = SimpleNamespace(sets=(), serving=SimpleNamespace(max_length=8, task=task))
        teacher: Any = SimpleNamespace(sha256="0")
        return identity(teacher, examples, RequestedOutputs((), 1, "fp32"))

    plain, other = get_task("question-answering"), get_task("question-answering", {"stride": 5})
    assert "task" not in key(plain) and key(plain) != key(other)


def test_logits_are_compared_at_the_first_token_of_each_word() -> None:
    ours = Encoded((1, 5, 6, 7, 2), (0,) * 5, words=(-1, 0, 0, 1, -1))
    theirs = Encoded((0, 3, 4, 5, 6, 2), (0,) * 6, words=(-1, 0, 1, 1, 2, -1))
    found = at_words(torch.arange(12.0).reshape(6, 2), ours, theirs)
    assert found[1].tolist() == [2, 3] and found[3].tolist() == [4, 5]
    assert found[[0, 2, 4]].isnan().all()


def test_a_pooled_state_is_what_the_head_reads() -> None:
    states = torch.tensor([[[1.0, 2], [3, 4], [9, 9]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pooled(states, mask, get_task("text-classification")).tolist() == [[1, 2]]
    assert pooled(states, mask, get_task("token-classification")).tolist() == [[2, 3]]


def test_a_narrower_student_learns_from_its_teacher(bench: Path, tmp_path: Path) -> None:
    made = run(bench, tmp_path, Distill(**EASY, student=Student(layers=1, hidden=16), relations=1.0, relation_heads=2))[0]
    config = json.loads((made.path / "config.json").read_text())
    assert (config["model_type"], config["num_hidden_layers"], config["hidden_size"]) == ("bert", 1, 16)
    assert (made.path / "tokenizer.json").read_bytes() == (bench / "model" / "tokenizer.json").read_bytes()
    again = run(bench, tmp_path, Distill(**EASY, student=Student(layers=1, hidden=16), relations=1.0, relation_heads=2))[0]
    assert again.key == made.key
    assert Distill().parameters() == {name: value for name, value in Distill().parameters().items() if name != "student"}


def test_a_student_of_another_family_learns_soft_labels_and_pooled_states(bench: Path, other: Path, tmp_path: Path) -> None:
    settings = {**EASY, "epochs": 4, "student": Student(folder=str(other), layers=1)}
    made = run(bench, tmp_path, Distill(**settings))[0]
    config = json.loads((made.path / "config.json").read_text())
    assert (config["model_type"], config["num_hidden_layers"]) == ("roberta", 1)
    assert (made.path / "merges.txt").read_bytes() == (other / "merges.txt").read_bytes()
    outputs = measurements(tmp_path, "teacher-outputs")
    assert len(outputs) == 1
    states = np.load(outputs[0].path / "pooled-2.npy")
    assert states.shape == (outputs[0].facts["examples"], 32)
    assert load_model(made.path, get_task("text-classification")).config.id2label == {0: "negative", 1: "positive"}
    assert _lineage_entry(made)["parameters"]["student"]["folder"] == other.name
    quiet = run(bench, tmp_path, Distill(**{**settings, "hidden": 0.0}))[0]
    ours, theirs = tensors(made), tensors(quiet)
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)  # the pooled states taught something


def test_relations_between_tokenizers_of_one_kind_are_refused(bench: Path, tmp_path: Path) -> None:
    folder = tiny_folder("bert", "Model", tmp_path / "bert")
    with pytest.raises(StageError, match=r"`relations` compares tokens.*is another"):
        run(bench, tmp_path / "store", Distill(**EASY, student=Student(folder=str(folder)), relations=1.0, relation_heads=2))


def test_a_student_that_is_not_there_or_says_nothing_is_refused(bench: Path) -> None:
    with pytest.raises(RecipeError, match="Correct the name"):
        inputs_of(bench, Distill(student=Student(folder="./nowhere")))
    with pytest.raises(ValueError, match="names neither a folder nor a size"):
        Student()
