"""Question answering: answers with their characters, compared with a loop over Transformers; SQuAD's metrics and forms."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_families import tiny_folder
from tokenizers import Tokenizer
from transformers import AutoModelForQuestionAnswering, PreTrainedTokenizerFast

from edgebert.data.first_rows import first_rows
from edgebert.data.spec import DataSpec
from edgebert.errors import DataError
from edgebert.models.load import load_model, run_model
from edgebert.tasks.answer_spans import AnswerOptions
from edgebert.tasks.answers import Detail
from edgebert.tasks.base import IGNORED, Row, collate, split_outputs
from edgebert.tasks.metrics.extracted_answers import exact_matches, word_f1
from edgebert.tasks.question_answering import QuestionAnswering

FAMILIES = ("bert", "distilbert", "roberta", "xlm-roberta")
LONGEST, STRIDE, LENGTH = 60, 12, 6
OPTIONS = AnswerOptions(stride=STRIDE, max_answer_length=LENGTH)
FOX = "  The quick brown fox — a fine one — jumps over\tthe lazy dog in São Paulo. "
CONTEXT = FOX + "It was a good film, 3 out of 10! " * 3
ROWS: list[Row] = [
    {"question": "which fox?", "context": CONTEXT},
    {"question": "— 東京?", "context": "東京 is a good app\n\nof 2024, not very good: it was awful."},
    {"question": "what?", "context": "fox"},
]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(request.param, "ForQuestionAnswering", tmp_path_factory.mktemp("qa"), seed=3)


def fast(folder: Path) -> Any:
    """Transformers' tokenizer of the very file; AutoTokenizer makes its own of some, which is what an import is for."""
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))


def answers_of(task: QuestionAnswering, folder: Path, rows: list[Row], detail: Detail) -> list[Any]:
    """The task's answers, of all windows in one padded batch."""
    model = load_model(folder, task)
    encoded = task.encode(Tokenizer.from_file(str(folder / "tokenizer.json")), rows, LONGEST)
    batch = collate(encoded, length=max(map(len, encoded)), pad_id=model.config.pad_token_id)
    with torch.no_grad():
        outputs = run_model(model, {name: torch.from_numpy(value) for name, value in batch.items()})
    parts = split_outputs(task, {name: outputs[name].numpy() for name in task.output_names}, encoded)
    assert task.decode(parts, encoded, rows, ()) == [[answer.answer] for answer in task.answer(parts, encoded, rows, ())]
    return task.answer(parts, encoded, rows, (), detail)


def reference(folder: Path, row: Row, *, count: int = 20) -> tuple[dict[tuple[int, int], float], float]:
    """Characters and score of every answer that a loop over Transformers finds, and the score of none: the loop of its example
    run_qa.py, window by window."""
    tokenizer, model = fast(folder), AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    found = tokenizer(
        row["question"],
        row["context"].replace("\t", " "),
        truncation="only_second",
        max_length=LONGEST,
        stride=STRIDE,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    scores: dict[tuple[int, int], float] = {}
    nothing = float("inf")
    for window in range(len(found["input_ids"])):
        taken = ["input_ids", "attention_mask", *(["token_type_ids"] if model.config.model_type == "bert" else [])]
        inputs = {name: torch.tensor([found[name][window]]) for name in taken}
        with torch.no_grad():
            outputs = model(**inputs)
        start, end = outputs.start_logits[0].double(), outputs.end_logits[0].double()
        nothing = min(nothing, float(start[0] + end[0]))
        tokens = [token for token, part in enumerate(found.sequence_ids(window)) if part == 1]
        starts, ends = (sorted(tokens, key=lambda token, of=of: -of[token])[:count] for of in (start, end))
        pairs = [(float(start[i] + end[j]), i, j) for i in starts for j in ends if i <= j < i + LENGTH]
        for score, i, j in sorted(pairs, reverse=True)[:count]:
            place = found["offset_mapping"][window][i][0], found["offset_mapping"][window][j][1]
            text = row["context"][slice(*place)]
            first, last = place[0] + len(text) - len(text.lstrip()), place[1] - len(text) + len(text.rstrip())
            if text.strip():
                scores[first, last] = max(score, scores.get((first, last), -np.inf))
    return scores, nothing


def test_answers_are_those_of_a_loop_over_transformers(folder: Path) -> None:
    task = QuestionAnswering(OPTIONS)
    assert len(task.encode(Tokenizer.from_file(str(folder / "tokenizer.json")), ROWS, LONGEST)) > len(ROWS)
    for row, answer in zip(ROWS, answers_of(task, folder, ROWS, Detail(logits=True)), strict=True):
        wanted, _ = reference(folder, row)
        ranked = sorted(wanted, key=lambda place: -wanted[place])[:20]
        assert answer.answer == row["context"][answer.start : answer.end] == row["context"][slice(*ranked[0])]
        assert [(item.start, item.end) for item in answer.answers] == ranked
        logits = np.array([wanted[place] for place in ranked])
        assert [item.logit for item in answer.answers] == pytest.approx(logits.tolist(), abs=1e-4)
        shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert [item.score for item in answer.answers] == pytest.approx(shares.tolist(), abs=1e-4)


def test_no_answer_is_given_where_it_leads_by_more_than_the_threshold(folder: Path) -> None:
    for row in ROWS:
        wanted, nothing = reference(folder, row)
        lead = nothing - max(wanted.values())
        for above, empty in ((-0.01, True), (0.01, False)):
            task = QuestionAnswering(OPTIONS.model_copy(update={"no_answer": True, "null_threshold": lead + above}))
            (answer,) = answers_of(task, folder, [row], Detail(top_k=3))
            assert (answer.answer == "") == empty and len(answer.answers) <= 3
            assert answer.answer or (answer.start, answer.end) == (0, 0)


def test_windows_are_those_of_transformers(folder: Path) -> None:
    encoded = QuestionAnswering(OPTIONS).encode(Tokenizer.from_file(str(folder / "tokenizer.json")), ROWS, LONGEST)
    cut = {"truncation": "only_second", "max_length": LONGEST, "stride": STRIDE, "return_overflowing_tokens": True}
    kinds = {"return_token_type_ids": True}
    pairs = [row["question"] for row in ROWS], [row["context"].replace("\t", " ") for row in ROWS]
    wanted = fast(folder)(*pairs, **cut, **kinds)
    assert [list(item.ids) for item in encoded] == wanted["input_ids"]
    assert [item.row for item in encoded] == wanted["overflow_to_sample_mapping"]
    assert [list(item.type_ids) for item in encoded] == wanted["token_type_ids"]


@pytest.mark.parametrize("length", [4, 5, 9, 60])
def test_questions_and_contexts_of_any_length_have_windows_that_fit(folder: Path, length: int) -> None:
    tokenizer, task = Tokenizer.from_file(str(folder / "tokenizer.json")), QuestionAnswering()
    rows: list[Row] = [
        {"question": "a good film? " * 50, "context": "not very good. " * 20 + "fox"},
        {"question": "\u0301 ﷺ" * 40, "context": "\u200b"},
        {"question": " ", "context": "the lazy dog " * 4},
    ]
    encoded = task.encode(tokenizer, rows, length)
    numbers = [item.row for item in encoded]
    assert numbers == sorted(numbers) and {*numbers} == {0, 1, 2}
    assert all(0 < len(item) <= length for item in encoded) and encoded[0].cut
    outputs = [{name: np.zeros(len(item), np.float32) for name in task.output_names} for item in encoded]
    assert len(task.decode(outputs, encoded, rows, ())) == 3
    if length == 60:  # all of the context is read, whatever the question
        first = [item for item in encoded if item.row == 0]
        ends = [item.offsets[token][1] for item in first for token, part in enumerate(item.texts) if part == 1]
        assert max(ends) == len(rows[0]["context"])


def test_a_hundred_thousand_characters_are_read_to_the_end(folder: Path) -> None:
    context = "the soup was awful, the lamp is bad " * 2780 + "fox"
    row = {"question": "who?", "context": context, "answers": [{"text": "fox", "start": -1}]}
    task = QuestionAnswering()
    encoded = task.encode(Tokenizer.from_file(str(folder / "tokenizer.json")), [row], 64)
    outputs = []
    for item in encoded:
        targets = task.targets(item, row, {})
        outputs.append({name: (targets[:, at] == 1).astype(np.float32) for at, name in enumerate(task.output_names)})
    (answer,) = task.answer(outputs, encoded, [row], ())
    assert (answer.answer, answer.start) == ("fox", len(context) - 3)


def test_targets_are_the_tokens_of_the_first_answer_and_cls_in_windows_without_it(folder: Path) -> None:
    task = QuestionAnswering(OPTIONS)
    start = CONTEXT.index("lazy")
    row = {**ROWS[0], "answers": [{"text": " lazy dog ", "start": start - 1}, {"text": "fox", "start": 18}]}
    found = 0
    for item in task.encode(Tokenizer.from_file(str(folder / "tokenizer.json")), [row], LONGEST):
        targets = task.targets(item, row, {})
        assert (targets != IGNORED).sum(axis=0).tolist() == [1, 1]
        first, last = (int(place) for place in targets.argmax(axis=0))
        if (first, last) != (0, 0):
            found += 1
            assert CONTEXT[item.offsets[first][0] : item.offsets[last][1]].strip() == "lazy dog"
    assert found


def test_the_loss_is_that_of_transformers(folder: Path) -> None:
    task, model = QuestionAnswering(), load_model(folder, QuestionAnswering())
    row = {**ROWS[2], "answers": [{"text": "fox", "start": 0}]}
    (item,) = task.encode(Tokenizer.from_file(str(folder / "tokenizer.json")), [row], LONGEST)
    targets = task.targets(item, row, {})
    batch = {name: torch.from_numpy(value) for name, value in collate([item], length=len(item), pad_id=0).items()}
    taken = {name: value for name, value in batch.items() if name != "token_type_ids" or model.config.model_type == "bert"}
    places = [torch.tensor([int(place)]) for place in targets.argmax(axis=0)]
    with torch.no_grad():
        wanted = model(**taken, start_positions=places[0], end_positions=places[1]).loss
        ours = task.loss(task.combined(run_model(model, batch)), torch.from_numpy(targets)[None])
    assert float(ours) == pytest.approx(float(wanted), abs=1e-6)


def official(text: str) -> str:
    """normalize_answer of SQuAD's evaluate-v2.0.py."""
    lower = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", lower).split())


def official_scores(gold: list[str], predicted: str) -> tuple[float, float]:
    """The scores of evaluate-v2.0.py for one question."""
    right = [answer for answer in gold if official(answer)] or [""]
    exact = max(int(official(answer) == official(predicted)) for answer in right)

    def f1(answer: str) -> float:
        ours, theirs = official(predicted).split(), official(answer).split()
        same = sum((Counter(theirs) & Counter(ours)).values())
        if not ours or not theirs:
            return float(ours == theirs)
        if not same:
            return 0.0
        precision, recall = same / len(ours), same / len(theirs)
        return 2 * precision * recall / (precision + recall)

    return float(exact), max(map(f1, right))


def test_metrics_are_those_of_the_official_script() -> None:
    texts = [
        "",
        "the",
        "The Eiffel Tower!",
        "eiffel tower",
        "a tower, a tower",
        "Tower",
        "São Paulo",
        "U.S.",
        "us",
        "an  12-bar",
    ]
    pairs = [(gold, text) for gold in (texts, *[[one] for one in texts], ["the", "Tower of Pisa"]) for text in texts]
    gold, predictions = [one for one, _ in pairs], [[text] for _, text in pairs]
    wanted = [official_scores(list(right), text) for right, text in pairs]
    assert exact_matches(predictions, gold)[:, 0].tolist() == [exact for exact, _ in wanted]
    assert word_f1(predictions, gold)[:, 0].tolist() == pytest.approx([f1 for _, f1 in wanted])
    assert 0 < sum(exact for exact, _ in wanted) < len(wanted)


def rows_of(folder: Path, answers: object, **options: Any) -> list[Any]:
    """The answers of a row, read from a file, of the context `a fox, a fox`."""
    (folder / "rows.jsonl").write_text(json.dumps({"question": "who?", "context": "a fox, a fox", "answers": answers}) + "\n")
    task = QuestionAnswering(AnswerOptions(**options))
    return list(first_rows(DataSpec(path="rows.jsonl"), "eval", base=folder, task=task).rows[0]["answers"])


def forms() -> Iterator[tuple[object, list[tuple[str, int]]]]:
    """Each form of answers in a file, and the answers that it means."""
    yield {"text": ["fox", "a fox"], "answer_start": [2, 7]}, [("fox", 2), ("a fox", 7)]
    yield [{"text": "fox", "answer_start": 9}], [("fox", 9)]
    yield "fox", [("fox", -1)]
    yield ["fox", "a fox"], [("fox", -1), ("a fox", -1)]
    yield {"text": [], "answer_start": []}, []
    yield "", []


@pytest.mark.parametrize("form", [*forms()], ids=lambda form: json.dumps(form[0]))
def test_answers_are_read_in_every_form(form: tuple[object, list[tuple[str, int]]], tmp_path: Path) -> None:
    answers, meant = form
    assert [(one["text"], one["start"]) for one in rows_of(tmp_path, answers, no_answer=True)] == meant


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        ({"text": ["fox"], "answer_start": [3]}, "'fox' at character 3, where the context has 'ox,'; it is at 2"),
        ({"text": ["cow"], "answer_start": [2]}, "'cow', which is not in its context"),
        ("cow", "'cow', which is not in its context"),
        ([], "task.no_answer: true"),
        (None, "missing"),
        (5, "not a list of answers but int"),
        ({"text": "fox"}, "not of the form"),
        ({"text": ["fox"], "answer_start": [1, 2]}, "1 texts and 2 values"),
        ({"text": ["fox"], "answer_start": [-1]}, "not the number of a character"),
        ({"text": ["fox"], "answer_start": [True]}, "not the number of a character"),
        ([{"answer_start": 2}], "`text` is missing"),
        ([["fox"]], "an answer that is list"),
    ],
)
def test_answers_that_cannot_be_right_are_named_by_their_row(answers: object, fault: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path, answers)
    assert "row 1: " in str(caught.value) and fault in str(caught.value)


def test_official_files_are_read(tmp_path: Path) -> None:
    questions = [
        {"id": "1", "question": "who?", "answers": [{"text": "fox", "answer_start": 2}]},
        {"id": "2", "question": "cow?", "is_impossible": True, "answers": [], "plausible_answers": []},
    ]
    article = {"title": "t", "paragraphs": [{"context": "a fox", "qas": questions}]}
    (tmp_path / "dev-v2.0.json").write_text(json.dumps({"version": "v2.0", "data": [article]}))
    task = QuestionAnswering(AnswerOptions(no_answer=True))
    rows = first_rows(DataSpec(path="dev-v2.0.json"), "eval", base=tmp_path, task=task).rows
    assert [task.reference(row, {}, ()) for row in rows] == [["fox"], [""]]
    with pytest.raises(ValueError, match="no question with an answer"):
        task.check_rows([[""], [""]])


def test_models_with_other_outputs_are_refused() -> None:
    assert "9 outputs" in (QuestionAnswering().model_fault({}, 9) or "")
    assert QuestionAnswering().model_fault({}, 2) is None
