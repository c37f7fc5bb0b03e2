"""Kinds of vocabulary: how the model of a tokenizer.json is read, what stays in it whatever is cut, and how it is cut.

A text whose tokens are all kept has the same tokens as before, whatever else is removed:

- WordPiece takes the longest piece at each position; of the pieces that stay, it is still the longest.
- BPE applies the merge of the lowest rank until none fits. With each token that is kept stay the two parts of its merges, so
  that every merge of such a text stays, in the same order.
- Unigram takes the segmentation of the highest score; of those that stay, it is still the highest. The piece of the lowest
  score is kept, because the score of an unknown character follows from it.

Single characters are kept, so that other words can be spelled. For byte-level BPE these are the 256 bytes. No torch.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""Pieces that stand for a byte of a character that has no piece."""

Model = Mapping[str, Any]
"""The `model` of a tokenizer.json."""


class VocabularyKind(ABC):
    """One type of model in tokenizer.json."""

    name: ClassVar[str]
    files: ClassVar[tuple[str, ...]] = ()
    """Files of a tokenizer that hold the same vocabulary in another form."""

    @abstractmethod
    def ids(self, model: Model) -> dict[str, int]:
        """Piece -> id."""

    @abstractmethod
    def unknown(self, model: Model) -> str | None:
        """The piece for what has no piece; None where the model names none."""

    @abstractmethod
    def always(self, model: Model) -> set[str]:
        """Pieces that stay whatever their count."""

    def closed(self, model: Model, kept: Iterable[str]) -> set[str]:
        """The kept pieces, and those that they are made of."""
        return set(kept)

    @abstractmethod
    def cut(self, model: Model, new_ids: Mapping[str, int]) -> dict[str, Any]:
        """The model with the pieces of `new_ids` only."""

    @abstractmethod
    def texts(self, model: Model) -> dict[str, str]:
        """Content of each of `files`."""


class WordPiece(VocabularyKind):
    """BERT's."""

    name = "WordPiece"
    files = ("vocab.txt",)

    def ids(self, model: Model) -> dict[str, int]:
        """As they stand there."""
        return dict(model["vocab"])

    def unknown(self, model: Model) -> str | None:
        """[UNK] where the model names none."""
        return str(model.get("unk_token", "[UNK]"))

    def always(self, model: Model) -> set[str]:
        """Single characters, at the start of a word ("c") and inside one ("##c")."""
        prefix = str(model.get("continuing_subword_prefix", "##"))
        return {piece for piece in model["vocab"] if len(piece.removeprefix(prefix) or piece) == 1}

    def cut(self, model: Model, new_ids: Mapping[str, int]) -> dict[str, Any]:
        """In the order of the old ids."""
        return {**model, "vocab": _renumbered(self.ids(model), new_ids)}

    def texts(self, model: Model) -> dict[str, str]:
        """A piece a line, in the order of the ids."""
        vocab = self.ids(model)
        return {"vocab.txt": "".join(f"{piece}\n" for piece in sorted(vocab, key=vocab.__getitem__))}


class BytePairs(VocabularyKind):
    """BPE, RoBERTa's: pieces grow by merges of two."""

    name = "BPE"
    files = ("vocab.json", "merges.txt")

    def ids(self, model: Model) -> dict[str, int]:
        """As they stand there."""
        return dict(model["vocab"])

    def unknown(self, model: Model) -> str | None:
        """None for a byte-level vocabulary, which can spell everything."""
        return model.get("unk_token") or None

    def always(self, model: Model) -> set[str]:
        """Single characters, which are the bytes of a byte-level vocabulary, and pieces that stand for a byte."""
        prefix, suffix = (str(model.get(name) or "") for name in ("continuing_subword_prefix", "end_of_word_suffix"))
        short = {piece for piece in model["vocab"] if len(piece.removeprefix(prefix).removesuffix(suffix) or piece) == 1}
        return short | {piece for piece in model["vocab"] if BYTE.fullmatch(piece)}

    def closed(self, model: Model, kept: Iterable[str]) -> set[str]:
        """With both parts of every merge that makes a kept piece, and theirs."""
        made_of: dict[str, list[str]] = {}
        for first, second, whole in merges_of(model):
            made_of.setdefault(whole, []).extend((first, second))
        closed, open_ = set(kept), list(kept)
        while open_:
            new = set(made_of.get(open_.pop(), ())) - closed
            closed |= new
            open_ += new
        return closed

    def cut(self, model: Model, new_ids: Mapping[str, int]) -> dict[str, Any]:
        """With the merges whose parts and result are all kept, in their order."""
        pairs = zip(model["merges"], merges_of(model), strict=True)
        merges = [written for written, pieces in pairs if all(piece in new_ids for piece in pieces)]
        return {**model, "vocab": _renumbered(self.ids(model), new_ids), "merges": merges}

    def texts(self, model: Model) -> dict[str, str]:
        """The ids as JSON, and a merge a line."""
        lines = "".join(f"{first} {second}\n" for first, second, _ in merges_of(model))
        return {
            "vocab.json": json.dumps(model["vocab"], ensure_ascii=False) + "\n",
            "merges.txt": f"#version: 0.2\n{lines}",
        }


class Unigram(VocabularyKind):
    """SentencePiece's, XLM-RoBERTa's: pieces with a score, and the id is the place in the list."""

    name = "Unigram"

    def ids(self, model: Model) -> dict[str, int]:
        """Places in the list."""
        return {piece: place for place, (piece, _) in enumerate(model["vocab"])}

    def unknown(self, model: Model) -> str | None:
        """The piece at `unk_id`."""
        place = model.get("unk_id")
        return None if place is None else str(model["vocab"][place][0])

    def always(self, model: Model) -> set[str]:
        """Single characters, pieces that stand for a byte, and the piece of the lowest score."""
        lowest = min(model["vocab"], key=lambda entry: entry[1])[0]
        return {lowest} | {piece for piece, _ in model["vocab"] if len(piece) == 1 or BYTE.fullmatch(piece)}

    def cut(self, model: Model, new_ids: Mapping[str, int]) -> dict[str, Any]:
        """In the order of the old ids, with the scores as they were."""
        vocab = [entry for entry in model["vocab"] if entry[0] in new_ids]
        unknown = self.unknown(model)
        return {**model, "vocab": vocab, "unk_id": None if unknown is None else new_ids[unknown]}

    def texts(self, model: Model) -> dict[str, str]:
        """None: only sentencepiece writes its own format, and tokenizer.json is what is read."""
        return {}


KINDS: tuple[VocabularyKind, ...] = (WordPiece(), BytePairs(), Unigram())


def kind_of(model: Model) -> VocabularyKind | None:
    """The kind of a model; None for other types. Files from before 2020 name no type."""
    untyped = "WordPiece" if "continuing_subword_prefix" in model and "merges" not in model else None
    name = model.get("type") or untyped
    return next((kind for kind in KINDS if kind.name == name), None)


def merges_of(model: Model) -> Iterator[tuple[str, str, str]]:
    """(first part, second part, the piece that they make) of each merge, in the order of their ranks."""
    prefix = str(model.get("continuing_subword_prefix") or "")
    for merge in model["merges"]:
        first, second = merge.split(" ") if isinstance(merge, str) else merge
        yield first, second, first + second.removeprefix(prefix)


def _renumbered(ids: Mapping[str, int], new_ids: Mapping[str, int]) -> dict[str, int]:
    return {piece: new_ids[piece] for piece in sorted(ids, key=ids.__getitem__) if piece in new_ids}
