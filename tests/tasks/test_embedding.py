"""Embedding: pairs, searches, prompts, shorter and rounded vectors, targets and losses, folders of sentence-transformers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_families import tiny_folder, tiny_model
from tokenizers import Tokenizer

from edgebert.bundle.opened_variant import OpenedVariant
from edgebert.errors import InputError, SourceError
from edgebert.models.folder import inspect_model
from edgebert.models.load import load_model, run_model, save_model
from edgebert.models.sentence_files import write_modules, write_settings
from edgebert.models.sentence_folder import FORMER, POOLINGS, read_sentence_folder
from edgebert.models.sentence_model import pooled
from edgebert.models.sentence_task import as_described, longest_text, with_task_files
from edgebert.models.surgery import everything, prune
from edgebert.runtimes.serving import Serving
from edgebert.tasks import get_task
from edgebert.tasks.base import Encoded
from edgebert.tasks.embedding import Embedding
from edgebert.tasks.embedding_options import EmbeddingOptions
from edgebert.tasks.metrics.retrieval import RECALL_AT_10, SEARCH_NDCG_AT_10
from edgebert.tasks.reductions import reduce_rows
from edgebert.tasks.vector_losses import cosent, imitation, in_batch, pair_loss
from edgebert.tasks.vectors import cosines, int8, packed, scores, shortened, signs, unit, unpacked


def task_with(**options: Any) -> Embedding:
    made = get_task("embedding", options)
    assert isinstance(made, Embedding)
    return made


def answered(task: Embedding, vectors: Sequence[Sequence[float]], rows: Sequence[dict[str, Any]]) -> Any:
    """What the task makes of a vector for each window."""
    numbers = [row for row, item in enumerate(rows) for _ in range(1 + ("text_pair" in item))]
    windows = [Encoded((1, 2), (0, 0), row) for row in numbers]
    outputs = [{"sentence_embedding": np.array(vector, dtype=np.float32)} for vector in vectors]
    return outputs, windows


def test_a_pair_is_predicted_by_its_cosine_and_zeros_by_none() -> None:
    task = task_with()
    rows = [{"text": "a", "text_pair": "b", "score": 1.0}] * 3
    outputs, windows = answered(task, [[2, 0], [1, 1], [1, 0], [-3, 0], [0, 0], [1, 0]], rows)
    assert task.decode(outputs, windows, rows, ()) == [round(math.sqrt(0.5), 6), -1.0, 0.0]
    assert [answer.as_json()["similarity"] for answer in task.answer(outputs, windows, rows, ())] == [0.707107, -1.0, 0.0]
    assert [task.reference(row, {}, ()) for row in rows] == [1.0] * 3
    assert task.agrees(0.5, 0.519) and not task.agrees(0.5, 0.53)


def test_a_text_alone_has_its_vector() -> None:
    rows = [{"text": "a"}]
    vector = [0.6, -0.8, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5]
    for options, wanted in (
        ({}, np.float32(vector).tolist()),
        ({"vectors": "int8"}, [95, -127, 0, 0, 0, 0, 0, 0, 79]),
        ({"vectors": "binary"}, [0b10000000, 0b10000000]),
        ({"dimensions": 2}, np.float32([0.6, -0.8]).tolist()),
        ({"dimensions": 1}, [1.0]),
        ({"dimensions": 50}, np.float32(vector).tolist()),
    ):
        task = task_with(**options)
        outputs, windows = answered(task, [vector], rows)
        (answer,) = task.answer(outputs, windows, rows, ())
        assert answer.as_json()["vector"] == pytest.approx(tuple(wanted)) and "similarity" not in answer.as_json()
        assert answer.cells()[0]


def test_vectors_are_packed_and_rounded_by_their_kind() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(5, 24)).astype(np.float32)
    assert np.abs(unpacked([packed(vector) for vector in vectors]) - vectors).max() < 2e-3
    assert (unpacked([packed(vector, "int8") for vector in vectors]) == int8(vectors)).all()
    assert (unpacked([packed(vector, "binary") for vector in vectors]) == np.where(vectors > 0, 1, -1)).all()
    assert (np.unpackbits(signs(vectors), axis=1) == (vectors > 0)).all()
    zeros = np.zeros((1, 8), dtype=np.float32)
    assert not unit(zeros).any() and not int8(zeros).any() and cosines(zeros, zeros).tolist() == [0.0]
    assert np.linalg.norm(shortened(vectors, 3, normalize=True), axis=1) == pytest.approx(1.0)
    assert (shortened(vectors, 3, normalize=False) == vectors[:, :3]).all()


def test_binary_vectors_are_searched_by_signs_and_ranked_by_numbers() -> None:
    generator = np.random.default_rng(1)
    passages, queries = (generator.normal(size=(count, 16)).astype(np.float32) for count in (100, 3))
    bits = np.where(passages > 0, 1.0, -1.0)
    for query, found in zip(queries, scores(queries, passages, "binary"), strict=True):
        distance = ((bits > 0) != (query > 0)).sum(axis=1)
        near = np.argsort(distance, kind="stable")[:40]
        wanted = near[np.argsort(-(bits[near] @ query), kind="stable")]
        assert np.argsort(-found, kind="stable")[:40].tolist() == wanted.tolist()


def test_a_search_is_judged_as_ir_measures_does() -> None:
    measures = pytest.importorskip("ir_measures")
    task = task_with(judged_by="retrieval")
    generator = np.random.default_rng(2)
    rows = [
        {"text": f"question {number // 2 if number < 6 else number}", "text_pair": f"passage {number % 25}"}
        for number in range(40)
    ]
    passages, questions = (generator.normal(size=(40, 8)) for _ in range(2))
    vectors = [
        vector for number, row in enumerate(rows) for vector in (questions[int(row["text"].split()[1])], passages[number % 25])
    ]
    outputs, windows = answered(task, vectors, rows)
    predictions, references = task.decode(outputs, windows, rows, ()), [task.reference(row, {}, ()) for row in rows]
    unit_rows = unit(np.array(vectors, dtype=np.float32).astype(np.float16).astype(np.float32))
    qrels = [measures.Qrel(row["text"], row["text_pair"], 1) for row in rows]
    run = [
        measures.ScoredDoc(rows[number]["text"], f"passage {other}", float(unit_rows[2 * number] @ unit_rows[2 * other + 1]))
        for number in range(40)
        for other in range(25)
    ]
    for metric, name in ((RECALL_AT_10, "R@10"), (SEARCH_NDCG_AT_10, "nDCG@10")):
        wanted = {item.query_id: item.value for item in measures.iter_calc([measures.parse_measure(name)], qrels, run)}
        found = metric.statistics(predictions, references, ())
        assert found[:, 0] / found[:, 1] == pytest.approx([wanted[row["text"]] for row in rows])
        of_questions = sum(wanted.values()) / len(wanted)  # a question of two rows counts once
        assert reduce_rows(metric.reduction, found) == pytest.approx(of_questions)
    guesses = RECALL_AT_10.statistics(task.guesses(references), references, ())
    assert reduce_rows("ratio", guesses) < 0.5 and [metric.name for metric in task.metrics] == ["recall_at_10", "ndcg_at_10"]
    assert task.agrees(predictions[0], predictions[0]) and not task.agrees(predictions[0], predictions[6])


@pytest.mark.parametrize(
    ("options", "references", "fault"),
    [
        ({}, [1.0, None], "row 2"),
        ({}, [1.0, 1.0], "same score"),
        ({"judged_by": "retrieval"}, [None], "text_pair"),
        ({"judged_by": "retrieval"}, [["a", "b"], ["c", "b"]], "same passage"),
    ],
)
def test_a_set_that_can_judge_nothing_is_refused(options: Any, references: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        task_with(**options).check_rows(references)


def test_prompts_are_written_before_texts(model_template: Path) -> None:
    tokenizer = Tokenizer.from_file(str(model_template / "tokenizer.json"))
    prompts = {"query": "ask ", "passage": "read ", "other": "so "}
    row = {"text": "a\tfilm", "text_pair": "a book"}

    def decoded(**options: Any) -> list[str]:
        plain = [tokenizer.encode(text).ids for text in options.pop("wanted")]
        assert [list(item.ids) for item in task_with(**options).encode(tokenizer, [row], 64)] == plain
        return []

    decoded(wanted=["a film", "a book"], prompts=prompts)
    decoded(wanted=["so a film", "so a book"], prompts=prompts, prompt="other")
    decoded(wanted=["ask a film", "read a book"], prompts=prompts, judged_by="retrieval")
    decoded(wanted=["so a film", "so a book"], prompts={"other": "so "}, prompt="other", judged_by="retrieval")
    with pytest.raises(InputError, match="none of `prompts`"):
        task_with(prompts=prompts, prompt="absent")


def test_strange_texts_have_tokens_or_are_told_apart(model_template: Path) -> None:
    tokenizer = Tokenizer.from_file(str(model_template / "tokenizer.json"))
    rows = [{"text": text} for text in ("", "a" * 100_000, "a 東京 б é 🙂", "a b " * 25_000)]
    encoded = task_with().encode(tokenizer, rows, 16)
    assert [len(item) for item in encoded][1:] and all(0 < len(item) <= 16 for item in encoded) and encoded[-1].cut
    task_with(judged_by="retrieval").reference({"text": "\ud800", "text_pair": "b"}, {}, ())


def test_losses_rank_pairs_and_ignore_texts_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(8, 6, generator=generator, requires_grad=True)
    targets = torch.tensor([[0.0], [0.0], [np.nan], [1.0], [1.0], [0.5], [0.5], [np.nan]])
    unit_rows = torch.nn.functional.normalize(vectors, dim=-1).detach()
    similar = [float(unit_rows[a] @ unit_rows[b]) for a, b in ((0, 1), (3, 4), (5, 6))]
    wanted = math.log(1 + sum(math.exp(20 * (similar[less] - similar[more])) for less, more in ((0, 1), (0, 2), (2, 1))))
    loss = pair_loss(vectors, targets, search=False, reduction="mean")
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    loss.backward()
    assert vectors.grad is not None and vectors.grad.isfinite().all() and not vectors.grad[[2, 7]].any()
    assert pair_loss(vectors, targets * np.nan, search=False, reduction="mean").item() == 0.0
    assert pair_loss(vectors[:3], targets[[0, 2, 2]], search=False, reduction="mean").item() == 0.0
    first, second = unit_rows[:4], unit_rows[4:]
    rows = torch.log_softmax(20 * first @ second.T, dim=1)
    assert float(in_batch(first, second)) == pytest.approx(-float(rows.diagonal().mean()), rel=1e-5)
    assert float(cosent(first, first, torch.ones(4))) == 0.0


def test_texts_of_a_row_are_drawn_together(model_template: Path) -> None:
    from types import SimpleNamespace

    from edgebert.runtimes.serving import Serving
    from edgebert.stages.examples import Examples

    rows = [{"text": "a film"}, {"text": "a", "text_pair": "b", "score": 1.0}, {"text": "c", "text_pair": "d", "score": 0.0}]
    data: Any = SimpleNamespace(blocks=lambda: iter([rows]), role="train")
    examples = Examples((data,), Serving(task_with(), (), 32, 0, model_template / "tokenizer.json"))
    assert examples.of_rows == [[0], [1, 2], [3, 4]]


def test_a_student_of_another_width_learns_the_relations() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(6, 12, generator=generator)
    turned = teacher @ torch.linalg.qr(torch.randn(12, 12, generator=generator))[0]
    wider = torch.cat([turned, torch.zeros(6, 3)], dim=1)
    assert float(imitation(wider, teacher)) == pytest.approx(0.0, abs=1e-5)
    assert float(imitation(teacher, teacher)) == pytest.approx(0.0, abs=1e-5) and float(imitation(turned, teacher)) > 0.1
    assert float(imitation(torch.randn(6, 5, generator=generator), teacher)) > 0.1
    assert torch.isfinite(imitation(teacher[:1] * 0, teacher[:1]))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_is_that_of_each_text_without_its_padding(pooling: str) -> None:
    hidden = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    lengths = (5, 3, 1)
    mask = torch.tensor([[1] * length + [0] * (5 - length) for length in lengths])
    found = pooled(hidden, mask, pooling)
    for row, length in enumerate(lengths):
        tokens = hidden[row, :length].numpy()
        weights = np.arange(1, length + 1)[:, None]
        wanted = {
            "cls": tokens[0],
            "lasttoken": tokens[-1],
            "max": tokens.max(axis=0),
            "mean": tokens.mean(axis=0),
            "mean_sqrt_len_tokens": tokens.sum(axis=0) / math.sqrt(length),
            "weightedmean": (tokens * weights).sum(axis=0) / weights.sum(),
        }[pooling]
        assert found[row].numpy() == pytest.approx(wanted, abs=1e-6)


@pytest.fixture(scope="module")
def sentence_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder with CLS pooling, a Dense layer and Normalize, as sentence-transformers saves it today."""
    from safetensors.torch import save_file

    folder = tiny_folder("bert", "Model", tmp_path_factory.mktemp("sentence") / "model")
    write_modules(folder, "cls", (), width=32, normalize=True)
    new = {"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(new))
    names = ("base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling", "base.modules.dense.Dense")
    paths = ("", "1_Pooling", "2_Dense", "3_Normalize")
    types = [f"sentence_transformers.{name}" for name in (*names, "base.modules.normalize.Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(zip(paths, types, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "2_Dense").mkdir()
    dense = {"in_features": 32, "out_features": 8, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(dense))
    weights = {"linear.weight": torch.randn(8, 32, generator=torch.Generator().manual_seed(3)), "linear.bias": torch.ones(8)}
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    write_settings(folder, {"query": "a ", "document": ""}, "query", 40)
    return folder


def test_a_sentence_folder_decides_what_the_recipe_leaves_open(sentence_folder: Path) -> None:
    task = task_with()
    model = with_task_files(inspect_model(sentence_folder), task)
    described = as_described(task, model)
    assert isinstance(described, Embedding)
    options = described.options
    assert (options.pooling, options.normalize, options.prompt) == ("cls", True, "query")
    assert options.before_texts() == "a " and options.before_passages() == ""
    assert longest_text(model, task) == 40 and model.has_head(task)
    assert {"modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"} <= set(model.files())
    assert get_task("embedding", options.changed()) == described
    assert "modules.json" not in inspect_model(sentence_folder).files()  # keys of other tasks stay as they are
    with pytest.raises(SourceError, match="pooling is mean"):
        as_described(task_with(pooling="mean"), model)
    with pytest.raises(SourceError, match="no prompt"):
        as_described(task_with(prompt="absent"), model)


def test_a_model_is_pooled_saved_and_pruned_with_what_surrounds_it(sentence_folder: Path, tmp_path: Path) -> None:
    model = load_model(sentence_folder, task_with())
    ids = torch.arange(6, 16).reshape(2, 5)
    batch = {"input_ids": ids, "attention_mask": torch.tensor([[1] * 5, [1] * 3 + [0] * 2]), "token_type_ids": ids * 0}
    with torch.no_grad():
        outputs = run_model(model, batch)
        hidden = outputs["last_hidden_state"][:, 0]
        weight, bias = model.dense[0].linear.weight, model.dense[0].linear.bias
        wanted = torch.tanh(hidden @ weight.T + bias)
        wanted = wanted / wanted.norm(dim=1, keepdim=True)
        assert torch.allclose(outputs["sentence_embedding"], wanted, atol=1e-6)
        pruned = prune(model, everything(model))
        assert torch.allclose(run_model(pruned, batch)["sentence_embedding"], wanted, atol=1e-5)
        save_model(pruned, tmp_path / "saved")
        again = load_model(tmp_path / "saved", task_with())
        assert torch.allclose(run_model(again, batch)["sentence_embedding"], wanted, atol=1e-5)
    said = read_sentence_folder(tmp_path / "saved")
    assert (said.pooling, said.normalize, len(said.dense)) == ("cls", True, 1)


@pytest.mark.parametrize("mode", FORMER.values())
def test_both_forms_of_a_pooling_are_read(mode: str, tmp_path: Path) -> None:
    write_modules(tmp_path, mode, (), width=32, normalize=False)
    assert read_sentence_folder(tmp_path).pooling == mode
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"embedding_dimension": 32, "pooling_mode": [mode]}))
    assert read_sentence_folder(tmp_path).pooling == mode and not read_sentence_folder(tmp_path).normalize


@pytest.mark.parametrize(
    ("file", "change", "fault"),
    [
        ("modules.json", lambda value: [*value, {"type": "custom.Own", "path": ""}], "code of its own"),
        ("modules.json", lambda value: [*value, {"type": "sentence_transformers.models.LSTM", "path": ""}], "LSTM"),
        ("modules.json", lambda value: value[::-1], "has the modules"),
        ("modules.json", lambda value: [{**value[0], "path": "0_Transformer"}, *value[1:]], "very old"),
        ("modules.json", lambda value: [value[0], {**value[1], "path": "../other"}], "leaves the model's"),
        ("modules.json", lambda value: {}, "JSON list"),
        ("1_Pooling/config.json", lambda value: {"pooling_mode": ["cls", "mean"]}, "pools by cls and mean"),
        ("1_Pooling/config.json", lambda value: {"pooling_mode": "own"}, "pools by own"),
        ("config_sentence_transformers.json", lambda value: {"prompts": {"a": 1}}, "prompts"),
        ("config_sentence_transformers.json", lambda value: {"default_prompt_name": "b"}, "prompts"),
        ("config_sentence_transformers.json", lambda value: {"similarity_fn_name": "manhattan"}, "manhattan"),
        ("sentence_bert_config.json", lambda value: {"do_lower_case": True}, "lower case"),
    ],
)
def test_modules_that_are_not_followed_are_refused_by_name(file: str, change: Any, fault: str, tmp_path: Path) -> None:
    write_modules(tmp_path, "mean", (), width=32, normalize=True)
    write_settings(tmp_path, {}, None, 64)
    (tmp_path / file).write_text(json.dumps(change(json.loads((tmp_path / file).read_text()))))
    with pytest.raises(SourceError, match=fault):
        read_sentence_folder(tmp_path)


def test_dense_weights_that_are_a_pickle_and_foreign_activations_are_refused(sentence_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(sentence_folder, folder)
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(SourceError, match=r"no model\.safetensors"):
        read_sentence_folder(folder)
    config = json.loads((folder / "2_Dense" / "config.json").read_text())
    (folder / "2_Dense" / "config.json").write_text(json.dumps({**config, "activation_function": "os.system"}))
    with pytest.raises(SourceError, match=r"os\.system"):
        read_sentence_folder(folder)


def test_an_encoder_of_any_family_is_pooled_without_a_pooler() -> None:
    from edgebert.models.families import FAMILIES
    from edgebert.models.sentence_model import SentenceModel

    for family in FAMILIES:
        if "units" in family.lacks:
            continue
        model = SentenceModel(tiny_model(family, "Model"), "mean", (), normalize=True)
        ids = torch.arange(3, 9)[None]
        with torch.no_grad():
            outputs = run_model(model, {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0})
        assert outputs["sentence_embedding"].norm(dim=1).item() == pytest.approx(1.0, abs=1e-5)


def test_a_client_that_pools_by_itself_gets_the_vectors_of_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime
    from fast_export import traced

    from edgebert.stages.export import onnx_graph

    folder = tiny_folder("bert", "Model", tmp_path / "model")
    monkeypatch.setattr(onnx_graph, "onnx_program", traced)
    onnx_graph.export_model(load_model(folder, task_with()), task_with(), tmp_path / "model.onnx", name="it")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    ids = np.arange(6, 16).reshape(2, 5)
    mask = np.array([[1] * 5, [1] * 3 + [0] * 2])
    hidden, vectors = session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0})
    assert [output.name for output in session.get_outputs()] == ["last_hidden_state", "sentence_embedding"]
    means = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1)[:, None]
    assert vectors == pytest.approx(means / np.linalg.norm(means, axis=1, keepdims=True), abs=1e-5)


def test_vectors_that_are_compared_by_their_dot_product_have_the_length_1(tmp_path: Path) -> None:
    for normalize in (True, False):
        write_modules(tmp_path, "mean", (), width=32, normalize=normalize)
        (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"similarity_fn_name": "dot"}))
        if normalize:
            assert read_sentence_folder(tmp_path).normalize
        else:
            with pytest.raises(SourceError, match="dot product"):
                read_sentence_folder(tmp_path)


def test_a_model_of_broken_bytes_gives_no_binary_vectors(tmp_path: Path) -> None:
    config = {"model_type": "bert", "hidden_size": 36}
    model = SimpleNamespace(path=tmp_path, config=config, more_files=())
    with pytest.raises(SourceError, match="have 36 numbers") as caught:
        as_described(task_with(vectors="binary"), model)  # type: ignore[arg-type]
    assert "dimensions: 32" in (caught.value.hint or "")
    assert as_described(task_with(vectors="binary", dimensions=32), model)  # type: ignore[arg-type]


def opened_with(**options: Any) -> OpenedVariant:
    """An opened bundle of the task without a model, whose goldens are texts alone."""
    manifest = SimpleNamespace(goldens=SimpleNamespace(rows=[{"text": "a"}]))
    serving = Serving(task_with(**options), (), 8, 0, Path("tokenizer.json"))
    return OpenedVariant(Path(), manifest, "", None, serving, None, None)  # type: ignore[arg-type]


def test_a_text_is_asked_with_any_prompt_of_the_model() -> None:
    opened = opened_with(prompts={"query": "ask ", "passage": "read "}, judged_by="retrieval")
    chosen = opened.with_prompt("query").serving.task.options
    assert isinstance(chosen, EmbeddingOptions) and chosen.before_texts() == "ask " and opened.with_prompt(None) is opened
    with pytest.raises(InputError, match="no prompt 'absent'") as caught:
        opened.with_prompt("absent")
    assert caught.value.hint == "It has: query, passage"
    with pytest.raises(InputError, match="text-classification takes none"):
        replace(opened, serving=replace(opened.serving, task=get_task("text-classification"))).with_prompt("query")


def test_a_pair_is_asked_of_a_model_whose_goldens_are_texts_alone() -> None:
    opened = opened_with()
    assert opened.asked(("a", "b"), 1).row == {"text": "a", "text_pair": "b"}
    assert opened.asked("a\tb", 1).row == {"text": "a\tb"}  # a tab in a line stays a space
    with pytest.raises(InputError, match="3 parts"):
        opened.asked(("a", "b", "c"), 1)


def test_prompts_that_only_a_search_has_are_noted() -> None:
    prompts = {"query": "ask ", "passage": "read "}
    assert "'ask ' before queries" in (task_with(prompts=prompts, judged_by="retrieval").serving_note() or "")
    assert task_with(prompts=prompts).serving_note() is task_with(judged_by="retrieval").serving_note() is None


@pytest.mark.parametrize(("dimensions", "nearest"), [(3, "8"), (100, "96")])
def test_binary_vectors_of_broken_bytes_are_refused(dimensions: int, nearest: str) -> None:
    with pytest.raises(ValidationError, match=f"whole bytes of 8 numbers each: {nearest}"):
        Embedding().configured({"vectors": "binary", "dimensions": dimensions})
