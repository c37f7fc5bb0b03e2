"""Copies a model into the store, and makes sure that it has a tokenizer.json that makes the tokens that Transformers makes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebert.core.packages import is_installed, package_version, quiet_libraries
from edgebert.core.progress import Progress
from edgebert.core.store import Artifact, ArtifactStore, Draft, MadeBy, hash_file, hash_json
from edgebert.errors import SourceError
from edgebert.models.cut_side import side_key
from edgebert.models.folder import ModelFolder
from edgebert.models.japanese import refuse_dictionary_words
from edgebert.models.panics import without_panic
from edgebert.models.token_rows import check_ids, unusable_tokenizer
from edgebert.models.tokenizer_limits import open_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

IMPORT_VERSION, CHECK_VERSION = 1, 1
TOKENIZER = "tokenizer.json"


def import_model(model: ModelFolder, store: ArtifactStore, progress: Progress) -> Artifact:
    """The store's copy of a model, which is made if there is none.

    Raises:
        SourceError: the tokenizer cannot be used with the model, or Transformers reads it in a way that devices cannot.
    """
    checked = check_against_transformers(model, store, progress)

    def make(draft: Draft) -> Mapping[str, Any]:
        with progress.step("read the model"):
            model.copy_to(draft.out)
            usable_tokenizer(draft.out, model)
            if (checked.path / TOKENIZER).is_file():
                shutil.copyfile(checked.path / TOKENIZER, draft.out / TOKENIZER)
        return {"origin": dict(model.origin), **_written(checked)}

    if model.tensorflow:
        progress.note(f"{model.path.name}: {model.tensorflow.title}; {len(model.tensors)} tensors, read without TensorFlow")
    for line in checked.facts["notes"]:
        progress.note(line)
    made_by = MadeBy(name="model", version=IMPORT_VERSION, parameters=dict(model.origin), packages={})
    return store.get_or_make(_base_key(model, checked), format="transformers", parent=None, made_by=made_by, make=make)


def find_imported(model: ModelFolder, store: ArtifactStore) -> Artifact | None:
    """The store's copy of a model; None if there is none."""
    checked = store.find(_check_key(model))
    return store.find(_base_key(model, checked)) if checked else None


def imported_contents(model: ModelFolder, imported: Artifact | None) -> dict[str, str]:
    """Name -> sha256 of the files that decide what a model answers: its own, and the tokenizer.json in place of its own.

    Args:
        imported: the store's copy of the model, if there is one.
    """
    written = imported.facts.get("written_tokenizer") if imported else None
    side = side_key(imported.path / TOKENIZER) if imported else {}
    return {**model.contents(), **({"written_tokenizer": written} if written else {}), **side}


def _written(checked: Artifact) -> dict[str, str]:
    """sha256 of the tokenizer.json that a model has in place of its own, where its own is not right."""
    file = checked.manifest.files.get(TOKENIZER)
    return {"written_tokenizer": file.sha256} if file else {}


def _base_key(model: ModelFolder, checked: Artifact) -> str:
    """Key of a model in the store. Where its own tokenizer.json is right, the key is that of the model's files alone."""
    return hash_json({"model": model.contents(), "version": IMPORT_VERSION, **_written(checked)})


def _check_key(model: ModelFolder) -> str:
    """Key of the comparison with Transformers: the tokenizer's files and config.json, and the packages that read them."""
    names = [name for name in (model.config_file, *model.family.tokenizer_files) if (model.path / name).is_file()]
    packages = {name: package_version(name) for name in ("transformers", "tokenizers")}
    files = {name: hash_file(model.path / name) for name in names}
    return hash_json({"tokenizer": files, "packages": packages, "version": CHECK_VERSION})


def check_against_transformers(model: ModelFolder, store: ArtifactStore, progress: Progress) -> Artifact:
    """Compares the model's tokenizer.json with what Transformers makes of its folder.

    Returns:
        An artifact with the tokenizer.json to use instead, if the model's own makes other tokens. Its fact `notes`, and
        notes.txt, have lines for the user.

    Raises:
        SourceError: as `import_model`.
    """
    from edgebert.models.matched_tokenizer import match_tokenizer

    refuse_dictionary_words(model)

    def make(draft: Draft) -> Mapping[str, Any]:
        with progress.step("compare the tokenizer with Transformers'"):
            try:
                model.copy_tokenizer_to(draft.work)
                matched = match_tokenizer(usable_tokenizer(draft.work, model), model)
            finally:
                for file in draft.work.iterdir():  # of a refused model as well: nothing here is gone on with
                    file.unlink()
        if matched.written is not None:
            (draft.out / TOKENIZER).write_text(matched.written, encoding="utf-8", newline="\n")
        (draft.out / "notes.txt").write_text("".join(f"{line}\n" for line in matched.notes) or "equal\n", encoding="utf-8")
        return {"notes": list(matched.notes)}

    made_by = MadeBy(name="tokenizer", version=CHECK_VERSION, parameters={}, packages={})
    return store.get_or_make(_check_key(model), format="measurement", parent=None, made_by=made_by, make=make)


def usable_tokenizer(folder: Path, model: ModelFolder) -> Tokenizer:
    """The tokenizer of a copy of the model's files, whose tokenizer.json is made if there is none.

    Raises:
        SourceError: it cannot be used with the model.
    """
    if not (folder / TOKENIZER).is_file():
        write_fast_tokenizer(folder, model)
    return check_tokenizer(folder / TOKENIZER, model)


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


def check_tokenizer(file: Path, model: ModelFolder) -> Tokenizer:
    """Loads the tokenizer and encodes a text, because it would fail later in the middle of the work.

    Raises:
        SourceError: it cannot be used with the model.
    """
    try:
        tokenizer = open_tokenizer(file)
        without_panic(lambda: tokenizer.encode("\u2603 is a character that few vocabularies have"))
    except ValueError as error:
        raise unusable_tokenizer(model, f"cannot be read: {error}") from error
    check_ids(tokenizer, model)
    return tokenizer
