"""The tokenizer's files of a bundle: lengths and sides as the model is served, for clients that are not edgebert. No torch.

Clients read the longest text from tokenizer_config.json, pad as it or tokenizer.json says, and fail beyond the position table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgebert.models.families import family_of_config
from edgebert.models.json_file import read_json
from edgebert.models.vocabulary import special_tokens, token_ids

LENGTHS = ("model_max_length", "max_length", "max_len")
OF_CALLS = ("pad_to_multiple_of", "stride", "truncation_strategy")
"""What Transformers keeps of the padding and windows that a tokenizer.json had."""
Content = dict[str, Any]


def write_served_tokenizer(folder: Path, max_length: int) -> None:
    """Rewrites tokenizer.json and tokenizer_config.json of a bundle's folder, so that they say what is served.

    tokenizer.json does not pad, and cuts where it cut before. tokenizer_config.json, which is made if there is none, has the
    longest text, the side of truncation of tokenizer.json, and padding on the right, as answers were measured.

    Args:
        folder: with config.json and tokenizer.json.
        max_length: longest text in tokens that the model is served.

    Raises:
        SourceError: a file cannot be read.
    """
    main, file = read_json(folder / "tokenizer.json"), folder / "tokenizer_config.json"
    config = read_json(file) if file.is_file() else usual_config(folder, main)
    _write_changed(folder / "tokenizer.json", main, served_main(main, max_length))
    _write_changed(file, None, served_config(config, main, max_length))


def served_main(main: Mapping[str, Any], max_length: int) -> Content:
    """The content of tokenizer.json without padding. It cuts, where it does, at the served length and without windows."""
    truncation = main.get("truncation")
    cut = {**truncation, "max_length": max_length, "stride": 0, "strategy": "LongestFirst"} if truncation else None
    return {**main, "padding": None, "truncation": cut}


def served_config(config: Mapping[str, Any], main: Mapping[str, Any], max_length: int) -> Content:
    """The content of tokenizer_config.json with the lengths and sides that are served."""
    side = str((main.get("truncation") or {}).get("direction", "Right")).lower()
    kept = {name: value for name, value in config.items() if name not in OF_CALLS}
    lengths = {name: max_length for name in LENGTHS if name in config}
    return {**kept, **lengths, "model_max_length": max_length, "padding_side": "right", "truncation_side": side}


def usual_config(folder: Path, main: Mapping[str, Any]) -> Content:
    """A tokenizer_config.json for a folder without one: the family's class, which Transformers takes then, and its special
    tokens."""
    family, known = family_of_config(read_json(folder / "config.json")), token_ids(main)
    special = special_tokens(folder)
    roles = {role: special[role] for role in family.special_tokens if special.get(role) in known}
    return {"tokenizer_class": family.tokenizer_class, **roles}


def _write_changed(file: Path, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> None:
    if before != after:
        file.write_text(json.dumps(after, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")
