"""How a recipe names a model, and how it is located: in a folder, an installed package, or on the Hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pydantic import Field

from edgebert.core.files import local_path
from edgebert.core.store import hash_file
from edgebert.core.strict import Strict
from edgebert.errors import EnvironmentFault, MissingPackage, SourceError
from edgebert.models.families import TOKENIZER_FILES
from edgebert.models.folder import ModelFolder, inspect_model
from edgebert.models.package_folder import folder_in_package
from edgebert.models.sentence_folder import SENTENCE_FILES
from edgebert.models.weight_files import WEIGHTS_INDEX


class ModelSource(Strict):
    """Name of a model: a folder, a package, or a Hub model, with a pin."""

    source: str = Field(
        min_length=1,
        description="A local folder, `package://module/path` inside an installed package, or a Hub name such as `org/name`.",
    )
    revision: str | None = Field(None, description="Hub only: a commit, tag or branch. A commit makes the run repeatable.")
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="Pin: sha256 of model.safetensors. Another file is refused."
    )


HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+|[\w.-]+")


def is_local(source: str, base: Path) -> bool:
    """Whether a model source means a folder on this machine."""
    if source.startswith("package://"):
        return False
    return source.startswith((".", "/", "~")) or local_path(source, base).exists() or not HUB_NAME.fullmatch(source)


def find_model(source: ModelSource, base: Path) -> ModelFolder:
    """Locates and inspects a model.

    Args:
        source: the recipe's `model`.
        base: the recipe's folder, to which local paths are relative.

    Raises:
        SourceError: it is missing, of no known family, not safetensors, or not the pinned file.
        EnvironmentFault: the Hub cannot be reached.
    """
    path = _locate(source, base)
    # The folder of a Hub snapshot is named after its commit.
    revision = path.name if path.parent.name == "snapshots" else source.revision
    folder = inspect_model(path, origin={"source": source.source, "revision": revision})
    if source.sha256 and len(folder.weight_files) > 1:
        raise SourceError(
            f"{folder.path} has its weights in {len(folder.weight_files)} files, but model.sha256 pins one.",
            hint="Pin a Hub model by `revision`, or save the model as one model.safetensors.",
        )
    if source.sha256 and source.sha256 != (sha256 := hash_file(folder.path / folder.weight_files[0])):
        raise SourceError(
            f"{folder.path / folder.weight_files[0]} has sha256 {sha256}, but the recipe pins {source.sha256}.",
            hint="Fetch the pinned file, or correct model.sha256 if the new file is meant.",
        )
    return folder


def _locate(source: ModelSource, base: Path) -> Path:
    if source.source.startswith("package://"):
        return folder_in_package(source.source)
    if is_local(source.source, base):
        path = local_path(source.source, base)
        if path.is_file():
            raise SourceError(f"The model {path} is a file.", hint="Name the folder that holds config.json and the weights.")
        if not path.is_dir():
            raise SourceError(
                f"The model folder {path} does not exist.", hint="Correct `model` in the recipe, or --set model=..."
            )
        return path
    return _from_hub(source)


def _from_hub(source: ModelSource) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )
    except ImportError as error:
        raise MissingPackage("huggingface_hub", needed_for=f"The Hub model {source.source}") from error
    patterns = ["config.json", "adapter_config.json", "*.safetensors", WEIGHTS_INDEX, *TOKENIZER_FILES, *SENTENCE_FILES]
    try:
        path = Path(snapshot_download(source.source, revision=source.revision, allow_patterns=patterns))
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        if isinstance(error, RepositoryNotFoundError | EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise SourceError(f"The Hub has no model {source.source} that you may read.", hint="Check the name.") from error
        raise _unreachable(source.source, error) from error
    except (HfHubHTTPError, Exception) as error:  # the client passes on errors of its HTTP library
        raise _unreachable(source.source, error) from error
    if not any(path.glob("*.safetensors")):
        raise SourceError(
            f"The Hub model {source.source} has no safetensors, and a pickle is not read from there, because it can run code.",
            hint="Name a revision with them, such as one of its refs/pr/N; or download it, then: edgebert convert FOLDER NEW",
        )
    return path


def _root_reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [error.__class__.__name__])[0]


def _unreachable(name: str, error: Exception) -> EnvironmentFault:
    why = "HF_HUB_OFFLINE=1 is set" if os.environ.get("HF_HUB_OFFLINE") == "1" else _root_reason(error)
    return EnvironmentFault(
        f"`{name}` is not a folder here, so it was looked up on the Hugging Face Hub, which could not be reached ({why}).",
        hint="With a network, run again. Without one, download it elsewhere and give the folder: --set model=PATH",
    )
