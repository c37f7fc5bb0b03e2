"""The tokenizer of a Transformers folder that is measured: its tokenizer.json, or one that says what Transformers reads."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgebert.models.folder import ModelFolder
from edgebert.models.import_model import TOKENIZER, check_tokenizer
from edgebert.models.matched_tokenizer import match_tokenizer

_HELD: list[tempfile.TemporaryDirectory[str]] = []
"""Folders of tokenizers that were written, kept until this process ends."""


def tokenizer_of(model: ModelFolder) -> Path:
    """A tokenizer.json that makes the tokens that Transformers makes of the folder.

    Raises:
        SourceError: the tokenizer cannot be used with the model, or Transformers makes tokens that none makes.
    """
    own = model.path / TOKENIZER
    matched = match_tokenizer(check_tokenizer(own, model), model)
    if matched.written is None:
        return own
    _HELD.append(tempfile.TemporaryDirectory(prefix="edgebert-tokenizer-"))
    file = Path(_HELD[-1].name) / TOKENIZER
    file.write_text(matched.written, encoding="utf-8", newline="\n")
    return file
