"""Reads a tokenizer, counts the tokens of texts, and chooses the tokens of its vocabulary to keep. No torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgebert.errors import SourceError
from edgebert.models.families import FAMILIES, find_family
from edgebert.models.families.bert import BERT
from edgebert.models.json_file import REWRITE, read_json
from edgebert.models.vocabulary_kinds import KINDS, VocabularyKind, kind_of

OWN = "Take the tokenizer files that the model was trained with."
ROLES = BERT.special_tokens
"""Role in BERT -> the token that has it if no file names another."""
OPTIONAL = ("mask_token",)  # masked language models need it, classifiers do not
LISTS = ("additional_special_tokens", "extra_special_tokens")


def count_tokens(encoded: Iterable[Sequence[int]]) -> Counter[int]:
    """Counts how often each token id occurs.

    Args:
        encoded: token ids of each text; read once, one text at a time.

    Returns:
        Token id -> occurrences, 1 or more. Its size grows with the vocabulary, not with the texts.
    """
    counts: Counter[int] = Counter()
    for ids in encoded:
        counts.update(ids)
    return counts


def read_tokenizer(folder: Path) -> dict[str, Any]:
    """The content of tokenizer.json, checked so that it can be rewritten.

    Raises:
        SourceError: there is no such file, its vocabulary is of a kind that cannot be cut, or it gives a token two ids.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise SourceError(
            f"{folder} has no tokenizer.json.",
            hint="Have it made from the older files: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        )
    tokenizer = read_json(file)
    _require_kind(file, tokenizer)
    loaded = load_ids(file, tokenizer)
    ids = token_ids(tokenizer)
    if loaded != ids or len(set(ids.values())) < len(ids):
        token = next((token for token in ids if loaded.get(token) != ids[token]), None)
        which = "two tokens" if token is None else f"the token {token!r}"
        raise SourceError(f"{file} does not give {which} an id that is clear and its own.", hint=OWN)
    for where, name, old in _uses(tokenizer):
        if name not in ids:
            raise SourceError(f"{file}: {where} names {name!r}, which the vocabulary does not hold.", hint=OWN)
        if old is not None and old != ids[name]:
            raise SourceError(f"{file}: {where} gives {name!r} the id {old}; in the vocabulary it is {ids[name]}.", hint=OWN)
    return tokenizer


def token_ids(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Token -> id in the content of tokenizer.json: the vocabulary and the added tokens."""
    return {
        **vocabulary_kind(tokenizer).ids(tokenizer["model"]),
        **{added["content"]: added["id"] for added in tokenizer.get("added_tokens") or ()},
    }


def special_tokens(folder: Path) -> dict[str, str]:
    """Special tokens that the files beside tokenizer.json name: role or key -> token; for other roles those of the family whose
    kind of vocabulary it has.

    Raises:
        SourceError: a file cannot be read.
    """
    named = dict(_usual_roles(folder))
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        content = _read_if_there(folder / name)
        for role, value in content.items():
            if role.endswith("_token") and (token := token_text(value)) is not None:
                named[role] = token
            elif role in LISTS and isinstance(value, list | dict):
                items = value.items() if isinstance(value, dict) else enumerate(value)
                named |= {f"{role}.{key}": token for key, item in items if (token := token_text(item)) is not None}
        decoder = added_tokens_decoder(folder / name, content).items()
        named |= {f"added_tokens_decoder.{key}": token for key, value in decoder if (token := token_text(value)) is not None}
    return named | {f"added_tokens.{token}": token for token in _read_if_there(folder / "added_tokens.json")}


def choose_vocabulary(
    tokenizer: Mapping[str, Any],
    counts: Mapping[int, int],
    min_count: int,
    *,
    special: Mapping[str, str] = ROLES,
    also: Collection[str] = (),
) -> tuple[int, ...]:
    """The old ids to keep, ascending.

    A token is kept if it occurs `min_count` times, if the tokenizer needs it, if a kept one is made of it, or if it is a single
    character. Characters are kept whatever their count, because a word whose own pieces are not kept is split into smaller
    ones; without its characters it would be unknown, and the model could not tell such words apart.

    Args:
        tokenizer: result of `read_tokenizer`.
        counts: old id -> occurrences, from `count_tokens`.
        min_count: occurrences, at least 1.
        special: result of `special_tokens`.
        also: further tokens to keep; those that the tokenizer has not are passed over.

    Raises:
        SourceError: the vocabulary lacks a token that the model needs.
        ValueError: a counted id is not in this tokenizer, or `min_count` is less than 1.
    """
    ids = token_ids(tokenizer)
    if min_count < 1:
        raise ValueError(f"min_count is {min_count}; a token that never occurs is not kept for its count")
    if foreign := set(counts) - set(ids.values()):
        raise ValueError(f"id {min(foreign)} was counted, but the tokenizer has no such token")
    kind, model = vocabulary_kind(tokenizer), tokenizer["model"]
    characters = {ids[piece] for piece in kind.always(model)}
    frequent = {token for token, count in counts.items() if count >= min_count}
    kept = needed_ids(tokenizer, special) | characters | frequent | {ids[token] for token in also if token in ids}
    return tuple(sorted(ids[piece] for piece in kind.closed(model, {token for token, old in ids.items() if old in kept})))


def _require_kind(file: Path, tokenizer: Mapping[str, Any]) -> None:
    model = tokenizer.get("model")
    if not isinstance(model, dict):
        raise SourceError(f"{file} describes no tokenizer: it has no model.", hint=REWRITE)
    if kind_of(model) is None:
        known = ", ".join(kind.name for kind in KINDS)
        raise SourceError(
            f"{file} is a tokenizer of type {model.get('type') or 'unknown'}; vocabularies of these types can be cut: {known}.",
            hint="Leave the vocabulary whole for this model.",
        )


def vocabulary_kind(tokenizer: Mapping[str, Any]) -> VocabularyKind:
    """The kind of vocabulary of a tokenizer that `read_tokenizer` checked."""
    kind = kind_of(tokenizer["model"])
    assert kind is not None
    return kind


def _usual_roles(folder: Path) -> Mapping[str, str]:
    """Role -> token in a family with the kind of vocabulary that tokenizer.json has: in the one that config.json names, or else
    in the first; BERT's without such a file."""
    model = _read_if_there(folder / "tokenizer.json").get("model")
    kind = kind_of(model) if isinstance(model, dict) else None
    named = find_family(_read_if_there(folder / "config.json").get("model_type"))
    families = (*([named] if named else []), *FAMILIES)
    return next((family.special_tokens for family in families if kind and family.vocabulary == kind.name), ROLES)


def load_ids(file: Path, tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Token -> id, as the library tokenizers reads tokenizer.json.

    Raises:
        SourceError: the library cannot read it.
    """
    from tokenizers import Tokenizer

    try:
        return dict(Tokenizer.from_str(json.dumps(tokenizer)).get_vocab(with_added_tokens=True))
    except Exception as error:  # tokenizers raises plain Exception
        raise SourceError(f"{file} is not a tokenizer: {error}.", hint=OWN) from error


def _uses(tokenizer: Mapping[str, Any]) -> Iterator[tuple[str, str, int | None]]:
    """Every mention of a token in tokenizer.json: the key, the token, and the id there, if any."""
    if unknown := vocabulary_kind(tokenizer).unknown(tokenizer["model"]):
        yield "model.unk_token", unknown, None
    if padding := tokenizer.get("padding"):
        yield "padding", padding["pad_token"], padding["pad_id"]
    for added in tokenizer.get("added_tokens") or ():
        yield "added_tokens", added["content"], added["id"]
    for token, old in _processor_tokens(tokenizer.get("post_processor")):
        yield "post_processor", token, old


def _processor_tokens(processor: Any) -> Iterator[tuple[str, int]]:
    for part in _parts(processor):
        for special in (part.get("special_tokens") or {}).values():
            yield from zip(special["tokens"], special["ids"], strict=True)
        for end in ("cls", "sep"):
            if end in part:
                yield part[end][0], part[end][1]


def _parts(processor: Any) -> list[dict[str, Any]]:
    """A post-processor, or the post-processors in a sequence."""
    if not processor:
        return []
    return [part for inner in processor["processors"] for part in _parts(inner)] if "processors" in processor else [processor]


def needed_ids(tokenizer: Mapping[str, Any], special: Mapping[str, str]) -> set[int]:
    """Ids of the tokens that a tokenizer file names.

    Raises:
        SourceError: the vocabulary lacks a token that the model needs.
    """
    ids = token_ids(tokenizer)
    for role, token in special.items():
        if token not in ids and role in ROLES and role not in OPTIONAL:
            raise SourceError(f"The tokenizer's {role} is {token!r}, which its vocabulary does not hold.", hint=OWN)
    named = {token for _, token, _ in _uses(tokenizer)} | set(special.values())
    return {ids[token] for token in named if token in ids}


def added_tokens_decoder(file: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """`added_tokens_decoder` of a tokenizer file: id -> token; empty if there is none.

    Raises:
        SourceError: it is not an object.
    """
    decoder = config.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise SourceError(f"{file}: added_tokens_decoder is not an object of ids and tokens.", hint=REWRITE)
    return decoder


def token_text(value: Any) -> str | None:
    """A token in the files beside tokenizer.json, where it is text or an object with `content`; None for other values."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _read_if_there(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}
