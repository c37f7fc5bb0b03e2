"""Extractive summarisation: sentences and their characters, BertSum's input, its oracle, and rouge-score's metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from tiny_families import tiny_folder
from tokenizers import Tokenizer
from transformers import AutoModelForTokenClassification, PreTrainedTokenizerFast

from edgebert.models.load import load_model, run_model
from edgebert.tasks.base import Row, collate, split_outputs
from edgebert.tasks.extractive_summarisation import ExtractiveSummarisation, SummaryOptions
from edgebert.tasks.metrics.rouge import ROUGE_1, ROUGE_2, ROUGE_L
from edgebert.tasks.oracle_summary import has_shared_trigram, oracle
from edgebert.tasks.sentence_split import sentence_spans
from edgebert.tasks.token_classification import TokenClassification

LONGEST = 24
TASK = ExtractiveSummarisation(SummaryOptions(sentences=2, trigram_blocking=False))
DOCUMENT = "  A good film.\tThe soup was awful!  Is the lamp bad? “Not very good,” it was. 東京は大きい。 The quick fox."


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Lee met J. Smith of the U.S. Navy. He left.", ["Dr. Lee met J. Smith of the U.S. Navy.", "He left."]),
        ("It costs 3.50 now. e.g. this. “Yes.” No", ["It costs 3.50 now. e.g. this.", "“Yes.”", "No"]),
        ("東京は大きい。大阪も。", ["東京は大きい。", "大阪も。"]),
        ("A title\n\nA line.\nnext", ["A title", "A line.", "next"]),
        ("no end", ["no end"]),
        (" \n\n ", []),
    ],
)
def test_texts_are_cut_into_sentences(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences


def test_a_hundred_thousand_characters_are_cut_at_once() -> None:
    assert len(sentence_spans("word " * 20_000)) == 1 and len(sentence_spans("One. " * 20_000)) == 20_000
    assert [len(sentence_spans(mark * 100_000)) for mark in (".", "\n", " ", "(")] == [1, 0, 0, 1]


def test_the_oracle_takes_the_sentences_that_come_nearest_to_the_summary() -> None:
    sentences = ("the cat sat", "dogs ran far away", "a cat sat on mats", "nothing here")
    assert oracle(sentences, "A cat sat on mats. Dogs ran far.", 3) == (1, 2)
    assert oracle(sentences, "A cat sat on mats. Dogs ran far.", 1) == (2,)
    assert oracle(sentences, "unrelated", 3) == oracle((), "x", 3) == ()
    assert has_shared_trigram("A cat sat.", ["then a cat sat down"]) and not has_shared_trigram("a cat", ["a cat sat"])


def reference(folder: Path, document: str, longest: int) -> list[float]:
    """The score of each sentence, by Transformers' model alone, sentence by sentence put together as BertSum does."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    pieces = [tokenizer(document[a:b].replace("\t", " "))["input_ids"][:longest] for a, b in sentence_spans(document)]
    windows: list[list[list[int]]] = []
    for piece in pieces:
        if not windows or sum(map(len, windows[-1])) + len(piece) > longest:
            windows.append([])
        windows[-1].append(piece)
    scores: list[float] = []
    for window in windows:
        ids = torch.tensor([[token for piece in window for token in piece]])
        kinds = torch.tensor([[place % 2 for place, piece in enumerate(window) for _ in piece]])
        taken = {"token_type_ids": kinds} if model.config.model_type == "bert" else {}
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **taken).logits[0, :, 0]
        scores += [float(logits[sum(map(len, window[:place]))]) for place in range(len(window))]
    return scores


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_summaries_are_those_of_a_loop_over_transformers(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(family, "ForTokenClassification", tmp_path, labels=("LABEL_0",), seed=1)
    tokenizer, model = Tokenizer.from_file(str(folder / "tokenizer.json")), load_model(folder, TASK)
    rows: list[Row] = [{"document": DOCUMENT}, {"sentences": ["a good film", "not bad"]}]
    encoded = TASK.encode(tokenizer, rows, LONGEST)
    assert len(encoded) > 2 and all(len(item) <= LONGEST for item in encoded)
    batch = collate(encoded, length=max(map(len, encoded)), pad_id=model.config.pad_token_id)
    with torch.no_grad():
        logits = run_model(model, {name: torch.from_numpy(value) for name, value in batch.items()})["logits"].numpy()
    outputs = split_outputs(TASK, {"logits": logits}, encoded)
    answer: Any = TASK.answer(outputs, encoded, rows, ())[0]
    scores, spans = reference(folder, DOCUMENT, LONGEST), sentence_spans(DOCUMENT)
    best = sorted(sorted(range(len(scores)), key=lambda index: -scores[index])[:2])
    assert [(item.start, item.end) for item in answer.sentences] == [spans[index] for index in best]
    shares = [1 / (1 + np.exp(-scores[index])) for index in best]
    assert [item.score for item in answer.sentences] == pytest.approx(shares, abs=1e-5)
    assert all(item.sentence == DOCUMENT[item.start : item.end] for item in answer.sentences)
    decoded = TASK.decode(outputs, encoded, rows, ())
    assert [decoded[0][0], decoded[1][0]] == [answer.summary, "a good film not bad"]
    assert decoded[0][1] == "A good film. The soup was awful!"


def test_a_sentence_that_repeats_a_better_one_is_left_out(tmp_path: Path) -> None:
    row = {"sentences": ["the lazy dog sleeps", "fox", "and the lazy dog barks"]}
    folder = tiny_folder("bert", "ForTokenClassification", tmp_path, labels=("LABEL_0",))
    for blocking, chosen in ((True, "the lazy dog sleeps fox"), (False, "the lazy dog sleeps and the lazy dog barks")):
        task = ExtractiveSummarisation(SummaryOptions(sentences=2, trigram_blocking=blocking))
        encoded = task.encode(Tokenizer.from_file(str(folder / "tokenizer.json")), [row], 64)
        outputs = [{"logits": np.array([[(3, 1, 2)[word]] for word in item.words])} for item in encoded]
        assert task.decode(outputs, encoded, [row], ())[0][0] == chosen


def test_metrics_are_rouge_scores_and_the_guess_is_the_lead() -> None:
    texts = ["The cats were sitting.", "A cat sat on the mat", "The cats sat on a mat", ""]
    pairs = [([one, ""], [other, "lead"]) for one in texts for other in texts]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for metric in (ROUGE_1, ROUGE_2, ROUGE_L):
        found = metric.statistics([one for one, _ in pairs], [other for _, other in pairs], ())
        wanted = [scorer.score(other[0], one[0])[metric.name].fmeasure for one, other in pairs]
        assert found[:, 0].tolist() == wanted and any(0 < value < 1 for value in wanted)
    assert TASK.guesses([["right", "lead"]]) == [["lead", "lead"]]


def test_models_of_the_two_tasks_of_a_class_are_told_apart() -> None:
    assert "9 outputs" in (TASK.model_fault({}, 9) or "") and TASK.model_fault({}, 1) is None
    assert "extractive-summarisation" in (TokenClassification().model_fault({}, 1) or "")


def test_summaries_in_other_scripts_share_words_and_characters() -> None:
    pairs = (
        ("今天天气很好", "今天天气不好", 5 / 6),
        ("القطة على السجادة", "القطة على الطاولة", 2 / 3),
        ("The cats sat on café chairs", "The cat sat on café chairs", 1.0),  # Latin: rouge-score's own words, stemmed
    )
    for ours, theirs, shared in pairs:
        (value,) = ROUGE_1.statistics([[ours]], [[theirs]], ())[0]
        assert value == pytest.approx(shared)
