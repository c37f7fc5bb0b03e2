"""Copies a model into the store, and makes sure that it has a tokenizer.json that works."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgebert.core.packages import is_installed, quiet_libraries
from edgebert.core.progress import Progress
from edgebert.core.store import Artifact, ArtifactStore, Draft, MadeBy, hash_json
from edgebert.errors import SourceError
from edgebert.models.folder import ModelFolder
from edgebert.models.tokenizer_limits import open_tokenizer, without_panic

IMPORT_VERSION = 1


def import_model(model: ModelFolder, store: ArtifactStore, progress: Progress) -> Artifact:
    """The store's copy of a model, which is made if there is none.

    Raises:
        SourceError: the tokenizer cannot be used with the model.
    """

    def make(draft: Draft) -> Mapping[str, Any]:
        with progress.step("read the model"):
            model.copy_to(draft.out)
            if not (draft.out / "tokenizer.json").is_file():
                write_fast_tokenizer(draft.out, model)
            check_tokenizer(draft.out / "tokenizer.json", model)
        return {"origin": dict(model.origin)}

    made_by = MadeBy(name="model", version=IMPORT_VERSION, parameters=dict(model.origin), packages={})
    return store.get_or_make(base_key(model), format="transformers", parent=None, made_by=made_by, make=make)


def base_key(model: ModelFolder) -> str:
    """Key of a model in the store."""
    return hash_json({"model": model.contents(), "version": IMPORT_VERSION})


def write_fast_tokenizer(folder: Path, model: ModelFolder) -> None:
    """Makes tokenizer.json from the files of the family's vocabulary, such as vocab.txt.

    Raises:
        SourceError: the vocabulary cannot be read.
    """
    if model.family.vocabulary == "Unigram" and not is_installed("sentencepiece"):
        raise SourceError(
            f"{model.path} has no tokenizer.json, and {model.family.vocabulary_files[0]} is read by the package sentencepiece, "
            "which is not installed.",
            hint="Put the tokenizer.json there that belongs to the model, or: pip install sentencepiece",
        )
    with quiet_libraries():
        from transformers import AutoTokenizer

        try:
            AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False).save_pretrained(folder)
        except Exception as error:  # tokenizers raises plain Exception
            raise unusable_tokenizer(model, f"cannot be read: {error}") from error


def check_tokenizer(file: Path, model: ModelFolder) -> None:
    """Loads the tokenizer and encodes a text, because it would fail later in the middle of the work.

    Raises:
        SourceError: it cannot be used with the model.
    """
    try:
        tokenizer = open_tokenizer(file)
        without_panic(lambda: tokenizer.encode("\u2603 is a character that few vocabularies have"))
    except ValueError as error:
        raise unusable_tokenizer(model, f"cannot be read: {error}") from error
    largest, rows = max(tokenizer.get_vocab().values()), model.config.get("vocab_size", 0)
    if rows and largest >= rows:
        raise unusable_tokenizer(model, f"has token ids up to {largest}, but the model's embedding table has {rows} rows")


def unusable_tokenizer(model: ModelFolder, why: str) -> SourceError:
    """The error for a tokenizer that cannot be used with the model."""
    first = (why.strip().splitlines() or [""])[0]
    return SourceError(
        f"The tokenizer in {model.path} {first.rstrip('.')}.", hint="Save the model's own there: tokenizer.save_pretrained(...)"
    )
