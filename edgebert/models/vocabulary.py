"""tokenizer: chooses the tokens of a WordPiece vocabulary that are kept, and rewrites its files to them. Without torch.

Old ids are those of the source, new ids count the kept ones in the same order: `kept[new] == old`. They are the rows that
`edgebert.models.embeddings.keep_tokens` keeps.

What the rewritten tokenizer makes of a text. WordPiece takes the longest piece that the vocabulary has at each place of a
word. Where that piece is kept, it is still the longest, since a part of the vocabulary has no other pieces. So a text that
had no [UNK] and whose tokens are all kept has the same tokens as before. A word that was [UNK] had a place where no piece
fits; it stays [UNK] as long as each character that stands inside a kept piece is a piece of its own ("##c" for the c of
"##bcd"), as in BERT's vocabularies, because then no kept piece reaches over such a place. Elsewhere it may come to be spelled.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgebert.errors import SourceError
from edgebert.models.folder import REWRITE, TOKENIZER_FILES, read_json

OWN = "Take the tokenizer files that the model was trained with."
ROLES = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
"""What BERT needs tokens for -> the token that plays the part where no file names another."""
OPTIONAL = ("mask_token",)  # masked language models need it, classifiers do not
LISTS = ("additional_special_tokens", "extra_special_tokens")
SHORTEST = 3  # [CLS], one token, [SEP]


def count_tokens(encoded: Iterable[Sequence[int]]) -> Counter[int]:
    """How often each token id occurs.

    Args:
        encoded: token ids of one text after another; read once, and never held together.

    Returns:
        Token id -> occurrences, of those that occur. It grows with the vocabulary, not with the texts.
    """
    counts: Counter[int] = Counter()
    for ids in encoded:
        counts.update(ids)
    return counts


def read_tokenizer(folder: Path) -> dict[str, Any]:
    """The content of tokenizer.json, found fit to be rewritten.

    Raises:
        SourceError: there is none, it is no WordPiece tokenizer, or what it says of its tokens does not agree.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise SourceError(
            f"{folder} has no tokenizer.json.",
            hint="Have it made from vocab.txt: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        )
    tokenizer = read_json(file)
    _require_word_piece(file, tokenizer)
    loaded = _load(file, tokenizer)
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
    """Token -> id, by the content of tokenizer.json: the vocabulary and the added tokens."""
    return {**tokenizer["model"]["vocab"], **{added["content"]: added["id"] for added in tokenizer.get("added_tokens") or ()}}


def special_tokens(folder: Path) -> dict[str, str]:
    """What the files beside tokenizer.json name: part or place -> token; BERT's own where they name none for a part of ROLES.

    Raises:
        SourceError: a file cannot be read.
    """
    named = dict(ROLES)
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        content = _read_if_there(folder / name)
        for role, value in content.items():
            if role.endswith("_token") and (token := _content(value)) is not None:
                named[role] = token
            elif role in LISTS and isinstance(value, list | dict):
                items = value.items() if isinstance(value, dict) else enumerate(value)
                named |= {f"{role}.{key}": token for key, item in items if (token := _content(item)) is not None}
        decoder = _decoder(folder / name, content).items()
        named |= {f"added_tokens_decoder.{key}": token for key, value in decoder if (token := _content(value)) is not None}
    return named | {f"added_tokens.{token}": token for token in _read_if_there(folder / "added_tokens.json")}


def choose_vocabulary(
    tokenizer: Mapping[str, Any], counts: Mapping[int, int], min_count: int, *, special: Mapping[str, str] = ROLES
) -> tuple[int, ...]:
    """The old ids to keep, ascending.

    Kept is a token that occurs `min_count` times, that the tokenizer needs, or that is a single character, at the start of a
    word ("c") or inside one ("##c"). The characters are kept whatever their count, because a word whose own pieces are gone
    is spelled with what is left; without its characters it would be [UNK], and all such words alike to the model.

    Args:
        tokenizer: what `read_tokenizer` gave.
        counts: old id -> occurrences, as from `count_tokens`.
        min_count: occurrences, at least 1.
        special: what `special_tokens` gave.

    Raises:
        SourceError: the vocabulary has no token for a part that BERT needs.
        ValueError: a count is of no token of this tokenizer, or `min_count` is less than 1.
    """
    ids = token_ids(tokenizer)
    if min_count < 1:
        raise ValueError(f"min_count is {min_count}; a token that never occurs is not kept for its count")
    if foreign := set(counts) - set(ids.values()):
        raise ValueError(f"id {min(foreign)} was counted, but the tokenizer has no such token")
    prefix = _prefix(tokenizer)
    characters = {ids[piece] for piece in tokenizer["model"]["vocab"] if len(piece.removeprefix(prefix) or piece) == 1}
    frequent = {token for token, count in counts.items() if count >= min_count}
    return tuple(sorted(_needed(tokenizer, special) | characters | frequent))


def rewrite_tokenizer(source: Path, target: Path, kept: Sequence[int], *, max_length: int | None = None) -> None:
    """Writes the tokenizer files of one folder to another, with the kept tokens only, numbered anew.

    tokenizer.json, vocab.txt, tokenizer_config.json and added_tokens.json are rewritten, special_tokens_map.json is copied;
    those that the source has not are not made. Nothing is written before everything is known to be right.

    `rewritten_tokenizer` gives what would be written, with the same arguments and errors.

    Args:
        target: another folder; made where it is not there.
        kept: old ids, ascending and distinct, with all that the tokenizer needs.
        max_length: tokens that the model still allows, at least 3; `model_max_length`, truncation and padding to a fixed
            length are lowered to it where they allow more.

    Raises:
        SourceError: the source cannot be rewritten.
        ValueError: what is kept makes no sense, or lacks a token that the tokenizer needs, or the lengths or folders do.
    """
    if target.resolve() == source.resolve():
        raise ValueError(f"{target} is the source, which is not edited")
    texts = rewritten_tokenizer(source, kept, max_length=max_length)
    target.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (target / name).write_text(text, encoding="utf-8", newline="\n")


def rewritten_tokenizer(source: Path, kept: Sequence[int], *, max_length: int | None = None) -> dict[str, str]:
    """What `rewrite_tokenizer` writes: file name -> content."""
    _check_length(max_length)
    tokenizer, special = read_tokenizer(source), special_tokens(source)
    _check_kept(kept, tokenizer, _needed(tokenizer, special))
    return _rewritten(source, tokenizer, kept, max_length)


def limit_tokenizer(folder: Path, max_length: int) -> None:
    """Lowers what the tokenizer files of a folder allow, in place: any tokenizer's, with its vocabulary as it is.

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


def _rewritten(source: Path, tokenizer: Mapping[str, Any], kept: Sequence[int], max_length: int | None) -> dict[str, str]:
    """File name -> its new content, for every tokenizer file that the source has."""
    old_ids = {old: token for token, old in token_ids(tokenizer).items()}
    new_ids = {old_ids[old]: new for new, old in enumerate(kept)}
    main = _renumbered(tokenizer, new_ids)
    if max_length is not None:
        main |= _limited(main, max_length)
    if _load(source / "tokenizer.json", main) != new_ids:  # tokenizers numbers added tokens itself
        raise SourceError(f"{source / 'tokenizer.json'} has added tokens whose ids cannot be kept in order.", hint=OWN)
    pieces = sorted(main["model"]["vocab"], key=new_ids.__getitem__)
    write: dict[str, Callable[[Path], str]] = {
        "tokenizer.json": lambda file: _dump(main),
        "tokenizer_config.json": lambda file: _dump(_config(file, new_ids, max_length)),
        "special_tokens_map.json": lambda file: file.read_text(encoding="utf-8"),
        "vocab.txt": lambda file: "".join(f"{piece}\n" for piece in pieces),
        "added_tokens.json": lambda file: _dump({token: _new_id(file, new_ids, token) for token in read_json(file)}),
    }
    return {name: write[name](source / name) for name in TOKENIZER_FILES if (source / name).is_file()}


def _require_word_piece(file: Path, tokenizer: Mapping[str, Any]) -> None:
    model = tokenizer.get("model")
    if not isinstance(model, dict):
        raise SourceError(f"{file} describes no tokenizer: it has no model.", hint=REWRITE)
    untyped = "WordPiece" if "continuing_subword_prefix" in model and "merges" not in model else "unknown"  # as before 2020
    kind = model.get("type") or untyped
    if kind != "WordPiece":
        raise SourceError(
            f"{file} is a tokenizer of type {kind}; only the vocabulary of a WordPiece tokenizer, BERT's own, can be cut.",
            hint="Leave the vocabulary whole for this model.",
        )


def _load(file: Path, tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Token -> id, by the library that reads tokenizer.json."""
    from tokenizers import Tokenizer

    try:
        return dict(Tokenizer.from_str(json.dumps(tokenizer)).get_vocab(with_added_tokens=True))
    except Exception as error:  # tokenizers raises plain Exception
        raise SourceError(f"{file} is not a tokenizer: {error}.", hint=OWN) from error


def _uses(tokenizer: Mapping[str, Any]) -> Iterator[tuple[str, str, int | None]]:
    """Every place of tokenizer.json that names a token: place, token, and the id that it gives there."""
    yield "model.unk_token", tokenizer["model"].get("unk_token", ROLES["unk_token"]), None
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
    """A post-processor, or those of a sequence of them."""
    if not processor:
        return []
    return [part for inner in processor["processors"] for part in _parts(inner)] if "processors" in processor else [processor]


def _prefix(tokenizer: Mapping[str, Any]) -> str:
    return str(tokenizer["model"].get("continuing_subword_prefix", "##"))


def _needed(tokenizer: Mapping[str, Any], special: Mapping[str, str]) -> set[int]:
    """Ids of the tokens that something other than a text names.

    Raises:
        SourceError: the vocabulary has none for a part that BERT needs.
    """
    ids = token_ids(tokenizer)
    for role, token in special.items():
        if token not in ids and role in ROLES and role not in OPTIONAL:
            raise SourceError(f"The tokenizer's {role} is {token!r}, which its vocabulary does not hold.", hint=OWN)
    named = {token for _, token, _ in _uses(tokenizer)} | set(special.values())
    return {ids[token] for token in named if token in ids}


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


def _renumbered(tokenizer: Mapping[str, Any], new_ids: Mapping[str, int]) -> dict[str, Any]:
    """The content of tokenizer.json with the tokens of `new_ids` only."""
    model = tokenizer["model"]
    vocab = {piece: new_ids[piece] for piece in sorted(model["vocab"], key=model["vocab"].__getitem__) if piece in new_ids}
    padding, added = tokenizer.get("padding"), tokenizer.get("added_tokens") or ()
    return {
        **tokenizer,
        "padding": padding and {**padding, "pad_id": new_ids[padding["pad_token"]]},
        "added_tokens": [{**token, "id": new_ids[token["content"]]} for token in added],
        "post_processor": _renumbered_processor(tokenizer.get("post_processor"), new_ids),
        "model": {**model, "vocab": vocab},
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
    """`truncation` and `padding` of tokenizer.json, lowered to what the model allows."""
    limited: dict[str, Any] = {}
    if truncation := tokenizer.get("truncation"):
        longest, stride = min(truncation["max_length"], max_length), truncation["stride"]
        if longest < truncation["max_length"]:
            # Overlapping windows have to move on: tokenizers panics where the stride is not less than what is left for a
            # text, and of a pair's texts each may have half.
            stride = min(stride, max((longest - 5) // 2, 0))
        limited["truncation"] = {**truncation, "max_length": longest, "stride": stride}
    if (padding := tokenizer.get("padding")) and isinstance(padding["strategy"], dict):
        limited["padding"] = {**padding, "strategy": {"Fixed": min(padding["strategy"]["Fixed"], max_length)}}
    return limited


def _config(file: Path, new_ids: Mapping[str, int], max_length: int | None) -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    config = read_json(file)
    if decoder := _decoder(file, config):
        config["added_tokens_decoder"] = {str(_new_id(file, new_ids, _content(token))): token for token in decoder.values()}
    return config if max_length is None else {**config, **_limited_config(config, max_length)}


def _limited_config(config: Mapping[str, Any], max_length: int) -> dict[str, Any]:
    """The lengths of tokenizer_config.json, lowered to what the model allows. Its `padding` is no length."""
    limited: dict[str, Any] = {}
    for name in ("model_max_length", "max_length"):  # the second is what calls of the tokenizer once asked for
        if isinstance(limit := config.get(name), int | float):
            limited[name] = min(limit, max_length)
    limited["model_max_length"] = limited.get("model_max_length") or max_length
    return limited


def _decoder(file: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    decoder = config.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise SourceError(f"{file}: added_tokens_decoder is not an object of ids and tokens.", hint=REWRITE)
    return decoder


def _new_id(file: Path, new_ids: Mapping[str, int], token: str | None) -> int:
    if token is None or token not in new_ids:
        raise SourceError(f"{file} lists the token {token!r}, which tokenizer.json does not have.", hint=OWN)
    return new_ids[token]


def _content(value: Any) -> str | None:
    """A token as the files beside tokenizer.json give it: as text, or as an object with its `content`."""
    found = value.get("content") if isinstance(value, dict) else value
    return found if isinstance(found, str) else None


def _read_if_there(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
