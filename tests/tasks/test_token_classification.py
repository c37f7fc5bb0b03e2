"""Token classification: tags of words over sub-words, windows of long rows, entities with the characters of the text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from edgebert.tasks.base import IGNORED, Encoded, Outputs
from edgebert.tasks.token_classification import Entities, Entity, TokenClassification

TASK = TokenClassification()
LABELS = ("B-city", "I-city", "B-person", "O")
INDICES = {label: index for index, label in enumerate(LABELS)}
TEXTS = [
    "Ada Lovelace lived in London.",
    "the new york times",
    "東京は大きい",
    "émigré café naïve",
    "an unusually-long hyphenation",
]


def wordpiece() -> Tokenizer:
    """As BERT's: lower case, no accents, words cut at signs and ideographs."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=60, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


def byte_level(*, trim: bool) -> Tokenizer:
    """As RoBERTa's: bytes, the space before a word in its first token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=trim, add_prefix_space=False)
    return tokenizer


def unigram() -> Tokenizer:
    """As XLM-R's: pieces that begin with a mark for the space before them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=70, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return tokenizer


TOKENIZERS = {
    "WordPiece": wordpiece(),
    "byte-level BPE": byte_level(trim=True),
    "byte-level BPE, untrimmed": byte_level(trim=False),
    "Unigram": unigram(),
}
every_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)


def saying(encoded: Sequence[Encoded], tags: dict[int, str]) -> list[Outputs]:
    """Outputs that give each word its tag at its first token in every window, and nonsense elsewhere."""
    outputs = []
    for window in encoded:
        logits = np.zeros((len(window), len(LABELS)), np.float32)
        seen: set[int] = set()
        for token, word in enumerate(window.words):
            label = tags.get(word, "O") if word not in seen else "B-person"
            logits[token, LABELS.index(label)] = 9.0
            seen.add(word)
        outputs.append({"logits": logits})
    return outputs


@every_tokenizer
def test_every_word_of_a_sentence_has_its_first_token_and_one_target(tokenizer: Tokenizer) -> None:
    row = {"words": ["Ada", "Lovelace", "lived", "in", "London", "."], "tags": ["B-person", "O", "O", "O", "B-city", "O"]}
    (item,) = TASK.encode(tokenizer, [row], 64)
    targets = TASK.targets(item, row, INDICES)
    assert [LABELS[target] for target in targets if target != IGNORED] == row["tags"]
    for index, target in enumerate(targets):
        first = item.words[index] != -1 and item.words[index] not in item.words[:index]
        assert (target != IGNORED) == first
    assert targets[0] == targets[-1] == IGNORED


@every_tokenizer
def test_words_and_the_same_text_have_the_same_tokens(tokenizer: Tokenizer) -> None:
    words = ["Ada", "Lovelace", "lived", "in", "London", "."]
    ours, theirs = TASK.encode(tokenizer, [{"words": words}, {"text": " ".join(words)}], 64)
    assert ours.ids == theirs.ids == tuple(tokenizer.encode(" ".join(words)).ids)


@every_tokenizer
@pytest.mark.parametrize("text", [*TEXTS, "  Ada\u00a0 Lovelace\t", "a\u0301 b", "x" * 40])
def test_an_entitys_characters_are_those_of_the_text(tokenizer: Tokenizer, text: str) -> None:
    row = {"text": text}
    encoded = TASK.encode(tokenizer, [row], 64)
    words = sorted({word for window in encoded for word in window.words} - {-1})
    assert words == list(range(len(words)))
    for word in words:
        (answer,) = TASK.answer(saying(encoded, {word: "B-city"}), encoded, [row], LABELS)
        assert isinstance(answer, Entities)
        (entity,) = answer.entities
        assert entity.text == text[entity.start : entity.end] == entity.text.strip() != ""
        assert (entity.label, round(entity.score, 3)) == ("city", 1.0)


def test_entities_of_plain_text_end_before_its_signs() -> None:
    row = {"text": "Ada Lovelace lived in London."}
    encoded = TASK.encode(TOKENIZERS["WordPiece"], [row], 64)
    tags = {0: "B-person", 1: "I-city", 4: "B-city", 5: "O"}
    (answer,) = TASK.answer(saying(encoded, tags), encoded, [row], LABELS)
    assert [(item.label, item.text) for item in answer.entities] == [
        ("person", "Ada"), ("city", "Lovelace"), ("city", "London"),
    ]  # fmt: skip
    assert answer.entities[2] == Entity("city", "London", 22, 28, answer.entities[2].score)
    assert answer.as_json()["entities"][2]["start"] == 22
    assert "city[22:28] London" in answer.cells()[0]


def test_no_entity_is_a_dash_in_the_terminal() -> None:
    encoded = TASK.encode(TOKENIZERS["WordPiece"], [{"text": "the new york times"}], 64)
    (answer,) = TASK.answer(saying(encoded, {}), encoded, [{"text": "the new york times"}], LABELS)
    assert answer.cells() == ("-",)


@every_tokenizer
@given(data=st.data())
def test_every_word_of_a_long_row_has_the_answer_of_one_window(tokenizer: Tokenizer, data: st.DataObject) -> None:
    known = ("Ada", "London", "unusually", ".", "東京", "émigré", "xyzzy")
    words = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=60))
    tags = data.draw(st.lists(st.sampled_from(LABELS), min_size=len(words), max_size=len(words)))
    row = {"words": words, "tags": tags}
    encoded = TASK.encode(tokenizer, [{"words": ["in"]}, row], data.draw(st.sampled_from([4, 8, 12, 64])))
    assert (encoded[0].row, encoded[-1].row) == (0, 1)
    assert [item.row for item in encoded] == sorted(item.row for item in encoded)
    outputs = saying(encoded, {})
    for output, item in zip(outputs, encoded, strict=True):
        for token, word in enumerate(item.words):
            if item.row == 1 and word != -1 and item.offsets[token][0] <= len(" ".join(words[:word]) + " " * (word > 0)):
                output["logits"][token] = 0
                output["logits"][token, LABELS.index(tags[word])] = 9.0
    decoded = TASK.decode(outputs, encoded, [{"words": ["in"]}, row], LABELS)
    assert decoded[1] == tags == TASK.reference(row, INDICES, LABELS)
    targets = [TASK.targets(item, row, INDICES) for item in encoded if item.row == 1]
    assert sum(int((found != IGNORED).sum()) for found in targets) >= len(words)


def test_a_word_in_two_windows_has_the_label_of_the_one_that_shows_more_around_it() -> None:
    row = {"words": ["in"] * 24}
    encoded = TASK.encode(TOKENIZERS["WordPiece"], [row], 18)
    first, second = encoded[0], encoded[1]
    shared = sorted(set(first.words) & set(second.words) - {-1})
    assert len(shared) >= 2
    outputs: list[Any] = [{"logits": np.zeros((len(item), len(LABELS)), np.float32)} for item in encoded]
    outputs[0]["logits"][:, LABELS.index("B-city")] = 1
    outputs[1]["logits"][:, LABELS.index("B-person")] = 1
    (tags,) = TASK.decode(outputs, encoded, [row], LABELS)
    assert [tags[shared[0]], tags[shared[-1]]] == ["B-city", "B-person"]


def test_a_word_without_a_token_is_outside() -> None:
    row = {"words": ["Ada", "\u200b", "London"], "tags": ["B-person", "B-city", "B-city"]}
    encoded = TASK.encode(TOKENIZERS["WordPiece"], [row], 64)
    assert TASK.decode(saying(encoded, {0: "B-person", 2: "B-city"}), encoded, [row], LABELS) == [["B-person", "O", "B-city"]]


@every_tokenizer
@pytest.mark.parametrize("words", [["\u200bfoo", "Ada"], ["\u3000x", "in"], ["\U0001f600" * 9, "Ada"], ["Ada"] * 3])
def test_every_word_with_a_token_has_one_target_and_the_label_that_it_says(tokenizer: Tokenizer, words: list[str]) -> None:
    row = {"words": words, "tags": ["B-city", "B-person", "I-city"][: len(words)]}
    for length in (6, 9, 64):
        encoded = TASK.encode(tokenizer, [row], length)
        targets = [TASK.targets(item, row, INDICES) for item in encoded]
        outputs = [{"logits": np.eye(len(LABELS), dtype=np.float32)[np.maximum(found, 0)]} for found in targets]
        with_tokens = {word for item in encoded for word in item.words} - {-1}
        decoded = TASK.decode(outputs, encoded, [row], LABELS)[0]
        assert [decoded[word] for word in with_tokens] == [row["tags"][word] for word in with_tokens]


def test_long_texts_take_time_in_proportion_to_their_length() -> None:
    counts = []
    for words in (2_000, 4_000):
        calls = 0

        def count(frame: Any, event: str, _: Any) -> None:
            nonlocal calls
            calls += event == "call"

        sys.setprofile(count)
        TASK.encode(TOKENIZERS["Unigram"], [{"text": "\u6f22" * words}, {"words": ["Ada"] * words}], 64)
        sys.setprofile(None)
        counts.append(calls)
    assert counts[1] < 2.5 * counts[0]


def test_a_row_without_tags_has_no_targets() -> None:
    row = {"words": ["Ada", "lived"]}
    (item,) = TASK.encode(TOKENIZERS["WordPiece"], [row], 64)
    assert set(TASK.targets(item, row, {}).tolist()) == {IGNORED}


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"words": ["a", "b"], "tags": ["O"]}, "2 words and 1 tags"),
        ({"text": "a b", "tags": ["O", "O"]}, "no `words`"),
    ],
)
def test_a_row_whose_columns_contradict_each_other_is_refused(row: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        TASK.check_row(row)


@pytest.mark.parametrize("tag", ["X-person", "person", "B-", "B_person", "", "b-person"])
def test_a_tag_outside_the_scheme_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="not of the BIO scheme"):
        TASK.check_label(tag)


def test_tags_of_the_scheme_and_numbers_of_labels_are_taken() -> None:
    for tag in ("O", "B-person", "I-creative-work", "E-x", "S-x", "3"):
        TASK.check_label(tag)


def test_offsets_are_kept_of_a_file_that_a_tokenizer_reads(tmp_path: Path) -> None:
    TOKENIZERS["WordPiece"].save(str(tmp_path / "tokenizer.json"))
    again = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    row = {"text": "the new york times"}
    assert TASK.encode(again, [row], 64) == TASK.encode(TOKENIZERS["WordPiece"], [row], 64)
