"""The tokenizer that Transformers makes of a model folder, and whether tokenizer.json alone makes the same tokens.

Devices have tokenizer.json and no Transformers. What the files beside it say (tokenizer_config.json, special_tokens_map.json,
added_tokens.json), and what the class does that they name, has to be in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edgebert.core.packages import quiet_libraries
from edgebert.models.folder import ModelFolder
from edgebert.models.hard_texts import Texts, long_list, short_list, shortened
from edgebert.models.token_rows import rows_of
from edgebert.tasks import get_task
from edgebert.tasks.base import Row, without_tabs

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNCUT = 100_000
"""Tokens that no compared text has."""
CUT = 12
"""Tokens at which compared texts are cut as well."""
SHOWN = 12
"""Tokens that a message shows."""
ParsedTokenizer = dict[str, Any]
"""The content of a tokenizer.json."""


@dataclass(frozen=True)
class Tokens:
    """What a model sees of a text."""

    ids: tuple[int, ...]
    segments: tuple[int, ...]
    """Segment of each token; empty for a model without segments."""


@dataclass(frozen=True)
class Difference:
    """A text of which two tokenizers make different tokens."""

    texts: Texts
    max_length: int
    theirs: Tokens
    ours: Tokens

    def __str__(self) -> str:
        text, second = self.texts
        what = shortened(text) if second is None else f"the pair {shortened(text)} and {shortened(second)}"
        cut = f" cut at {self.max_length} tokens" if self.max_length != UNCUT else ""
        if self.theirs.ids != self.ours.ids:
            theirs, ours = (_around(one.ids, other.ids) for one, other in ((self.theirs, self.ours), (self.ours, self.theirs)))
            return f"{what}{cut}: token ids {theirs} by Transformers, {ours} by tokenizer.json"
        return f"{what}{cut}: segment ids differ"


class TransformersTokenizer:
    """`AutoTokenizer` of a folder, asked as people ask it."""

    def __init__(self, model: ModelFolder) -> None:
        """Loads it from the model's folder, without code from there.

        Raises:
            Exception: of Transformers or tokenizers, where it cannot be read.
        """
        from transformers import AutoTokenizer

        with quiet_libraries():
            self.tokenizer: Any = AutoTokenizer.from_pretrained(
                model.path, config=_plain_config(model), local_files_only=True, trust_remote_code=False, **_case(model)
            )
        self._model = model

    @property
    def is_portable(self) -> bool:
        """Whether it is one of the library tokenizers, which devices have; others are written in Python."""
        return bool(getattr(self.tokenizer, "is_fast", False))

    @property
    def cuts_left(self) -> bool:
        """Whether it drops the start of a long text, and not its end."""
        return bool(self.tokenizer.truncation_side == "left")

    @property
    def has_segments(self) -> bool:
        """Whether the model is given segment ids that are not all 0."""
        return "token_type_ids" in self._model.inputs and "token_type_ids" in self.tokenizer.model_input_names

    @cached_property
    def special(self) -> tuple[str, ...]:
        """Its added and special tokens."""
        return tuple(dict.fromkeys([*self.tokenizer.get_added_vocab(), *map(str, self.tokenizer.all_special_tokens)]))

    def encode(self, texts: Sequence[Texts], max_length: int) -> list[Tokens]:
        """The tokens of texts or of pairs; all have a second text, or none has."""
        first, second = [text for text, _ in texts], [pair for _, pair in texts if pair is not None]
        with quiet_libraries():
            found = self.tokenizer(
                first, second or None, truncation=True, max_length=max_length, return_token_type_ids=True, verbose=False
            )
        return [self._tokens(ids, types) for ids, types in zip(found["input_ids"], found["token_type_ids"], strict=True)]

    def _tokens(self, ids: Sequence[int], types: Sequence[int]) -> Tokens:
        if "token_type_ids" not in self._model.inputs:
            return Tokens(tuple(ids), ())
        return Tokens(tuple(ids), tuple(types) if self.has_segments else (0,) * len(ids))

    def parsed(self) -> ParsedTokenizer:
        """A tokenizer.json that makes the same tokens by itself: it does not pad, and cuts only where it cuts on the left."""
        content: ParsedTokenizer = json.loads(self.tokenizer.backend_tokenizer.to_str())
        cut = {"direction": "Left", "max_length": self._model.max_length(), "strategy": "LongestFirst", "stride": 0}
        content |= {"padding": None, "truncation": cut if self.cuts_left else None}
        rows = rows_of(self._model.config)
        content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < rows]
        if self.tokenizer.split_special_tokens:  # a flag that tokenizer.json has no place for
            content["added_tokens"] = [token for token in content["added_tokens"] if not token["special"]]
        if "token_type_ids" in self._model.inputs and not self.has_segments:
            content["post_processor"] = one_segment(content["post_processor"])
        return content


def _case(model: ModelFolder) -> dict[str, Any]:
    """What Google's checkpoints say in no file: whether letters are lowered."""
    said = model.tensorflow.tokenizer if model.tensorflow else {}
    return {name: value for name, value in said.items() if name == "do_lower_case"}


def _plain_config(model: ModelFolder) -> Any:
    """The config by which Transformers chooses a class: of the family, also for a pruned model."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(model.family.model_type)
    for name in ("tokenizer_class", "_name_or_path"):
        if isinstance(value := model.config.get(name), str):
            setattr(config, name, value)
    return config


def one_segment(processor: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """A post-processor that gives every token the segment 0, for a model that is given no segment ids."""
    if processor is None:
        parts = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
        return {"type": "TemplateProcessing", "single": parts[:1], "pair": parts, "special_tokens": {}}
    if processor["type"] == "BertProcessing":
        return one_segment(_template_of(processor))
    if processor["type"] == "Sequence":
        return {**processor, "processors": [one_segment(part) for part in processor["processors"]]}
    if processor["type"] != "TemplateProcessing":
        return processor
    return {**processor, **{name: [_in_first(piece) for piece in processor[name]] for name in ("single", "pair")}}


def _in_first(piece: Mapping[str, Any]) -> dict[str, Any]:
    return {kind: {**value, "type_id": 0} for kind, value in piece.items()}


def _template_of(processor: Mapping[str, Any]) -> dict[str, Any]:
    """BertProcessing as the template that it is short for."""
    ends = {token: {"id": token, "ids": [index], "tokens": [token]} for token, index in (processor["cls"], processor["sep"])}
    first, last = ({"SpecialToken": {"id": processor[end][0], "type_id": 0}} for end in ("cls", "sep"))
    one, two = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [first, one, last],
        "pair": [first, one, last, two, last],
        "special_tokens": ends,
    }


def first_difference(theirs: TransformersTokenizer, ours: Tokenizer, model: ModelFolder) -> Difference | None:
    """The first text of which tokenizer.json makes other tokens than Transformers, cut or not; None if there is none found.

    Where the two are built of the same parts, a short list of texts is enough. Otherwise every piece of the vocabulary and
    characters of every block of Unicode are compared.
    """
    short = short_list({*theirs.special, *(token.content for token in ours.get_added_tokens_decoder().values())})
    alone = [texts for texts in short if texts[1] is None]
    pairs = [texts for texts in short if texts[1] is not None]
    for texts in (alone, pairs):
        for max_length in (UNCUT, CUT):
            if found := _compared(theirs, ours, model, texts, max_length):
                return found
    if _parts(theirs.tokenizer.backend_tokenizer) == _parts(ours):
        return None
    blocks = ([(text, None) for text in block] for block in long_list(ours))
    return next((found for block in blocks if (found := _compared(theirs, ours, model, block, UNCUT))), None)


def _compared(
    theirs: TransformersTokenizer, ours: Tokenizer, model: ModelFolder, texts: Sequence[Texts], max_length: int
) -> Difference | None:
    texts = [(without_tabs(text), None if pair is None else without_tabs(pair)) for text, pair in texts]
    rows: list[Row] = [{"text": text, "text_pair": pair} for text, pair in texts]
    served = get_task("text-classification").encode(ours, rows, max_length)
    segmented, limit = "token_type_ids" in model.inputs, rows_of(model.config)
    for text, wanted, item in zip(texts, theirs.encode(texts, max_length), served, strict=True):
        found = Tokens(item.ids, item.type_ids if segmented else ())
        # With ids beyond the table Transformers gives no answer that ours could equal.
        if wanted != found and max(wanted.ids, default=0) < limit:
            return Difference(text, max_length, wanted, found)
    return None


def _parts(tokenizer: Tokenizer) -> dict[str, Any]:
    """What decides the tokens of a text before special tokens are put around them, in a form that can be compared."""
    content = json.loads(tokenizer.to_str())
    added = [{key: value for key, value in token.items() if key != "special"} for token in content["added_tokens"]]
    model = {key: _rounded(value) for key, value in content["model"].items() if value not in (None, "")}
    return {"model": model, "added": added, **{name: content[name] for name in ("normalizer", "pre_tokenizer")}}


def _rounded(value: Any) -> Any:
    """Scores of pieces without their last digits, which reading a tokenizer.json may change."""
    if isinstance(value, list) and value and isinstance(value[0], list) and isinstance(value[0][-1], float):
        return [(piece, round(score, 9)) for piece, score in value]
    return value


def _around(ids: Sequence[int], other: Sequence[int]) -> str:
    """The ids of a text from shortly before the first that differs."""
    same = next(
        (place for place, (one, two) in enumerate(zip(ids, other, strict=False)) if one != two), min(len(ids), len(other))
    )
    start = max(0, same - 2)
    shown = ", ".join(map(str, ids[start : start + SHOWN]))
    return f"[{'..., ' if start else ''}{shown}{', ...' if start + SHOWN < len(ids) else ''}]"
