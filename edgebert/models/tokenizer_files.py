"""Rewrites a tokenizer's files: to the kept tokens of its vocabulary, and to a shorter longest input. No torch.

New ids count the kept tokens in the order of their old ids: `kept[new] == old`. They are the rows that
`edgebert.models.embeddings.keep_tokens` keeps. A text without unknown characters whose tokens are all kept has the same tokens
as before, for the reasons in `edgebert.models.vocabulary_kinds`.

A word that was [UNK] in a WordPiece vocabulary has a position where no piece fits. It stays [UNK] if each character inside a
kept piece is a piece of its own ("##c" for the c of "##bcd"), as in BERT's vocabularies, because then no kept piece reaches
over that position. In other vocabularies such a word may get pieces.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgebert.errors import SourceError
from edgebert.models.families import TOKENIZER_FILES
from edgebert.models.json_file import read_json
from edgebert.models.vocabulary import (
    OWN,
    added_tokens_decoder,
    load_ids,
    needed_ids,
    read_tokenizer,
    special_tokens,
    token_ids,
    token_text,
    vocabulary_kind,
)

SHORTEST = 3  # [CLS], one token, [SEP]


def rewrite_tokenizer(source: Path, target: Path, kept: Sequence[int], *, max_length: int | None = None) -> None:
    """Writes the tokenizer files of one folder to another, with the kept tokens only, numbered anew.

    tokenizer.json, the files of its kind of vocabulary, tokenizer_config.json and added_tokens.json are rewritten,
    special_tokens_map.json is copied; a file that the source lacks is not made. A model of sentencepiece is left out, because
    only that package writes it. Nothing is written before everything has been checked.

    Args:
        target: another folder, which is made if it does not exist.
        kept: old ids, ascending and distinct, with every token that the tokenizer needs.
        max_length: longest input of the model in tokens, at least 3; `model_max_length`, truncation and padding to a fixed
            length are lowered to it if they are larger.

    Raises:
        SourceError: the source cannot be rewritten.
        ValueError: `kept` or `max_length` is not as above, or the target is the source.
    """
    if target.resolve() == source.resolve():
        raise ValueError(f"{target} is the source, which is not edited")
    texts = rewritten_tokenizer(source, kept, max_length=max_length)
    target.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (target / name).write_text(text, encoding="utf-8", newline="\n")


def rewritten_tokenizer(source: Path, kept: Sequence[int], *, max_length: int | None = None) -> dict[str, str]:
    """File name -> content that `rewrite_tokenizer` writes; with the same arguments and errors, and without writing."""
    _check_length(max_length)
    tokenizer = read_tokenizer(source)
    _check_kept(kept, tokenizer, needed_ids(tokenizer, special_tokens(source)))
    old_ids = {old: token for token, old in token_ids(tokenizer).items()}
    new_ids = {old_ids[old]: new for new, old in enumerate(kept)}
    _check_closed(tokenizer, new_ids)
    main = _renumbered(tokenizer, new_ids)
    if max_length is not None:
        main |= _limited(main, max_length)
    if load_ids(source / "tokenizer.json", main) != new_ids:  # the library tokenizers numbers added tokens itself
        raise SourceError(f"{source / 'tokenizer.json'} has added tokens whose ids cannot be kept in order.", hint=OWN)
    kind = vocabulary_kind(main)
    write: dict[str, Callable[[Path], str]] = {
        "tokenizer.json": lambda file: _dump(main),
        "tokenizer_config.json": lambda file: _dump(_config(file, new_ids, max_length)),
        "special_tokens_map.json": lambda file: file.read_text(encoding="utf-8"),
        "added_tokens.json": lambda file: _dump({token: _new_id(file, new_ids, token) for token in read_json(file)}),
        **{name: lambda file: kind.texts(main["model"])[file.name] for name in kind.files},
    }
    return {name: write[name](source / name) for name in TOKENIZER_FILES if name in write and (source / name).is_file()}


def limit_tokenizer(folder: Path, max_length: int) -> None:
    """Lowers the longest input in the tokenizer files of a folder. For any tokenizer; the vocabulary stays.

    Args:
        max_length: as in `rewrite_tokenizer`.

    Raises:
        SourceError: a file cannot be read.
        ValueError: `max_length` is less than 3.
    """
    _check_length(max_length)
    limits: dict[str, Callable[[Mapping[str, Any], int], dict[str, Any]]] = {
        "tokenizer.json": _limited,
        "tokenizer_config.json": _limited_config,
    }
    for name, limit in limits.items():
        if (folder / name).is_file():
            before = read_json(folder / name)
            (folder / name).write_text(_dump({**before, **limit(before, max_length)}), encoding="utf-8", newline="\n")


def _check_length(max_length: int | None) -> None:
    if max_length is not None and max_length < SHORTEST:
        raise ValueError(f"max_length is {max_length}; a text needs {SHORTEST} tokens")


def _check_kept(kept: Sequence[int], tokenizer: Mapping[str, Any], needed: set[int]) -> None:
    old_ids = {old: token for token, old in token_ids(tokenizer).items()}
    if not kept:
        raise ValueError("no token is kept")
    if list(kept) != sorted(set(kept)):
        raise ValueError("the kept tokens are not ascending and distinct")
    if foreign := set(kept) - set(old_ids):
        raise ValueError(f"id {min(foreign)} is kept, but the tokenizer has no such token")
    if missing := needed - set(kept):
        raise ValueError(f"{old_ids[min(missing)]!r} (id {min(missing)}) is not kept, but the tokenizer needs it")


def _check_closed(tokenizer: Mapping[str, Any], kept: Mapping[str, int]) -> None:
    if missing := sorted(vocabulary_kind(tokenizer).closed(tokenizer["model"], kept) - set(kept)):
        raise ValueError(f"{missing[0]!r} is not kept, but a kept token is made of it")


def _renumbered(tokenizer: Mapping[str, Any], new_ids: Mapping[str, int]) -> dict[str, Any]:
    """The content of tokenizer.json with the tokens of `new_ids` only."""
    padding, added = tokenizer.get("padding"), tokenizer.get("added_tokens") or ()
    return {
        **tokenizer,
        "padding": padding and {**padding, "pad_id": new_ids[padding["pad_token"]]},
        "added_tokens": [{**token, "id": new_ids[token["content"]]} for token in added],
        "post_processor": _renumbered_processor(tokenizer.get("post_processor"), new_ids),
        "model": vocabulary_kind(tokenizer).cut(tokenizer["model"], new_ids),
    }


def _renumbered_processor(processor: Any, new_ids: Mapping[str, int]) -> Any:
    if not processor:
        return processor
    changed = dict(processor)
    if "processors" in processor:
        changed["processors"] = [_renumbered_processor(part, new_ids) for part in processor["processors"]]
    if processor.get("special_tokens"):
        changed["special_tokens"] = {
            name: {**special, "ids": [new_ids[token] for token in special["tokens"]]}
            for name, special in processor["special_tokens"].items()
        }
    for end in ("cls", "sep"):
        if end in processor:
            changed[end] = [processor[end][0], new_ids[processor[end][0]]]
    return changed


def _limited(tokenizer: Mapping[str, Any], max_length: int) -> dict[str, Any]:
    """`truncation` and `padding` of tokenizer.json, lowered to the model's longest input."""
    limited: dict[str, Any] = {}
    if truncation := tokenizer.get("truncation"):
        longest, stride = min(truncation["max_length"], max_length), truncation["stride"]
        if longest < truncation["max_length"]:
            # Overlapping windows have to advance: tokenizers panics if the stride is not less than the room for a text, and
            # each text of a pair may have half of the room.
            stride = min(stride, max((longest - 5) // 2, 0))
        limited["truncation"] = {**truncation, "max_length": longest, "stride": stride}
    if (padding := tokenizer.get("padding")) and isinstance(padding["strategy"], dict):
        limited["padding"] = {**padding, "strategy": {"Fixed": min(padding["strategy"]["Fixed"], max_length)}}
    return limited


def _config(file: Path, new_ids: Mapping[str, int], max_length: int | None) -> dict[str, Any]:
    """The new content of tokenizer_config.json."""
    config = read_json(file)
    if decoder := added_tokens_decoder(file, config):
        config["added_tokens_decoder"] = {str(_new_id(file, new_ids, token_text(token))): token for token in decoder.values()}
    return config if max_length is None else {**config, **_limited_config(config, max_length)}


def _limited_config(config: Mapping[str, Any], max_length: int) -> dict[str, Any]:
    """The lengths of tokenizer_config.json, lowered to the model's longest input. Its `padding` is not a length."""
    limited: dict[str, Any] = {}
    for name in ("model_max_length", "max_length"):  # the second was an argument of the tokenizer's calls
        if isinstance(limit := config.get(name), int | float):
            limited[name] = min(limit, max_length)
    limited["model_max_length"] = limited.get("model_max_length") or max_length
    return limited


def _new_id(file: Path, new_ids: Mapping[str, int], token: str | None) -> int:
    if token is None or token not in new_ids:
        raise SourceError(f"{file} lists the token {token!r}, which tokenizer.json does not have.", hint=OWN)
    return new_ids[token]


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
