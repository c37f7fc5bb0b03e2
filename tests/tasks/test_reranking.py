"""Reranking: scores equal to Transformers', orders, activations of config.json, right answers that fit no passage."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_families import tiny_folder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from edgebert.compress.readable_rows import check_readable
from edgebert.data.column_kinds import KINDS
from edgebert.errors import DataError, InputError
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.tasks.answers import Detail
from edgebert.tasks.reranking import RankedPassage, Ranking, Reranking, RerankingOptions

TASK = Reranking()
ROWS = [
    {"query": "a good film", "passages": ["the soup was awful", "a fine one\tand 東京 too", "word " * 25_000]},
    {"query": "the lazy dog " * 40, "passages": ["not very good: it was an app"]},
]


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_scores_and_orders_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(family, "ForSequenceClassification", tmp_path, labels=("LABEL_0",))
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    serving = Serving(TASK, (), 48, model.config.pad_token_id, folder / "tokenizer.json")
    encoded = serving.encode(serving.open_tokenizer(), ROWS)
    taken = tokenizer.model_input_names

    def logits_of(batch: Any) -> Any:
        with torch.no_grad():
            return model(**{name: torch.as_tensor(batch[name]) for name in taken}).logits.numpy()

    outputs = [{"logits": logits_of(serving.batch([item], Target(runtime="onnxruntime")))[0]} for item in encoded]
    wanted = []
    for row in ROWS:
        pairs = [
            [row["query"].replace("\t", " ")] * len(row["passages"]),
            [text.replace("\t", " ") for text in row["passages"]],
        ]
        wanted.append(logits_of(tokenizer(*pairs, truncation=True, max_length=48, padding=True, return_tensors="pt"))[:, 0])
    for found, theirs in zip(TASK.decode(outputs, encoded, ROWS, ()), wanted, strict=True):
        assert found == pytest.approx(theirs.tolist(), abs=1e-5)
    first, second = TASK.answer(outputs, encoded, ROWS, ())
    assert isinstance(first, Ranking) and isinstance(second, Ranking)
    assert [item.index for item in first.passages] == np.argsort(-wanted[0]).tolist()
    assert [item.score for item in first.passages] == pytest.approx(
        sorted(1 / (1 + np.exp(-wanted[0])), reverse=True), abs=1e-5
    )
    assert [item.cut for item in encoded] == [False, False, True, True]


def answered(task: Reranking, logits: list[float], detail: Detail = Detail()) -> Ranking:  # noqa: B008 - it is frozen
    row = {"query": "q", "passages": tuple("abcdef"[: len(logits)])}
    (found,) = task.answer([{"logits": np.array([value])} for value in logits], encoded_of(len(logits)), [row], (), detail)
    assert isinstance(found, Ranking)
    return found


def encoded_of(count: int) -> list[Any]:
    from edgebert.tasks.base import Encoded

    return [Encoded((1,), (0,), 0, part=part) for part in range(count)]


def test_an_answer_is_the_order_with_scores() -> None:
    found = answered(TASK, [0.0, 900.0, -900.0])
    assert found.passages == (RankedPassage(1, 1.0, "b"), RankedPassage(0, 0.5, "a"), RankedPassage(2, 0.0, "c"))
    assert found.cells() == ("1:1.0000 0:0.5000 2:0.0000",) and found.logits is None
    assert answered(TASK, [1.0, 1.0], Detail(top_k=1)).passages[0].index == 0
    own = answered(TASK.configured(RerankingOptions(activation="identity")), [-3.5, 2.0], Detail(logits=True))
    assert [item.score for item in own.passages] == [2.0, -3.5] and own.logits == (-3.5, 2.0)


@pytest.mark.parametrize(
    ("config", "activation"),
    [
        ({}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "identity"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, "sigmoid"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "identity"),
    ],
)
def test_the_activation_is_that_of_the_models_config_unless_the_recipe_names_one(
    config: dict[str, Any], activation: str
) -> None:
    found = TASK.of_model(config)
    assert found.options.activation == activation and found.of_model({}) is found
    assert found.of_model(dict(found.config_fields())) == TASK.of_model(dict(found.config_fields())) == found
    assert TASK.configured({"activation": "sigmoid"}).of_model(config).options.activation == "sigmoid"


def test_a_model_of_several_outputs_is_refused() -> None:
    assert "has 3 outputs, and a reranker has one" in (TASK.model_fault({}, 3) or "")
    assert TASK.model_fault({}, 1) is None


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"relevance": [1.0]}, "2 passages and 1 numbers"),
        ({"relevance": [1.0, -1.0]}, "has the relevance -1"),
        ({"relevant": [2.0]}, "has 2 in `relevant`, which is no index of its 2 passages"),
        ({"relevant": [0.5]}, "has 0.5 in `relevant`"),
        ({"relevant": [0.0], "relevance": [1.0, 0.0]}, "one of them"),
    ],
)
def test_right_answers_that_do_not_fit_the_passages_are_refused(answers: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TASK.check_row({"query": "q", "passages": ["a", "b"], **answers})


def test_indices_of_relevant_passages_are_grades() -> None:
    row = {"query": "q", "passages": ["a", "b", "c"], "relevant": [2.0, 0.0]}
    TASK.check_row(row)
    assert TASK.reference(row, {}, ()) == [1.0, 0.0, 1.0]
    assert [TASK.targets(item, row, {}).tolist() for item in encoded_of(3)] == [[1.0], [0.0], [1.0]]
    graded = {"query": "q", "passages": ["a", "b"], "relevance": [3.0, 0.25]}
    assert [TASK.targets(item, graded, {}).tolist() for item in encoded_of(2)] == [[1.0], [0.25]]
    with pytest.raises(ValueError, match="no query with both"):
        TASK.check_rows([[0.0, 0.0], [1.0]])


def test_a_model_of_one_segment_is_refused_for_passages(tmp_path: Path) -> None:
    folder = tiny_folder("bert", "ForSequenceClassification", tmp_path, labels=("LABEL_0",), layers=1)
    serving = Serving(TASK, (), 48, 0, folder / "tokenizer.json")
    data: Any = SimpleNamespace(role="eval", columns=["query", "passages"], rows=lambda indices: ROWS[:1])
    config = {"model_type": "bert", "type_vocab_size": 2}
    check_readable([data], serving, config)
    with pytest.raises(DataError, match="has pairs, whose tokens are of 2 segments, but the model knows 1"):
        check_readable([data], serving, {**config, "type_vocab_size": 1})


@pytest.mark.parametrize("text", ["a query alone", "a query\t", "\ta passage", ("query",), ("query", " ")])
def test_a_line_without_a_query_and_passages_is_refused(text: Any) -> None:
    with pytest.raises(InputError, match="A query and its passages are asked for"):
        TASK.row_of(text)


@pytest.mark.parametrize(
    ("value", "message"), [("1", "is not a list"), ([1, "x"], "has number 2 that is 'x'"), ([[1]], "number 1")]
)
def test_a_column_of_numbers_is_read_or_refused(value: Any, message: str) -> None:
    assert KINDS["numbers"].read([1, "2.5"]) == [1.0, 2.5] and KINDS["numbers"].read([]) == []
    with pytest.raises(ValueError, match=message):
        KINDS["numbers"].read(value)
