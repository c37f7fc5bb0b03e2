"""convert: a new model folder with model.safetensors, made of PyTorch's pickles or of TensorFlow's weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from edgebert.core.faults import store_faults
from edgebert.core.files import local_path
from edgebert.errors import InputError, MissingPackage, SourceError
from edgebert.models.families import TOKENIZER_FILES
from edgebert.models.folder import inspect_model
from edgebert.models.json_file import read_json
from edgebert.models.tensorflow.folder import tensorflow_weights
from edgebert.models.weight_files import FETCH_AGAIN, WEIGHTS, WEIGHTS_INDEX

PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
SENTENCES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
"""Files of sentence-transformers beside the model."""
SECONDS = 1800
"""Longest time for one model."""
TRUST = "Take the weights from where safetensors are, or from somebody whom you trust: nothing of the file was run."


def convert(folder: str | Path, new: str | Path) -> Path:
    """Writes a folder with model.safetensors, config.json and the tokenizer's files: `edgebert.convert("old", "new")`.

    The weights are pytorch_model.bin, in one file or in shards, which a process of its own reads without running what they name
    (`torch.load(weights_only=True)`); or tf_model.h5 of Transformers, or a checkpoint of Google's BERT (bert_config.json,
    vocab.txt and bert_model.ckpt.*), which are read without TensorFlow.

    Args:
        folder: the model's folder.
        new: a folder that does not exist yet. It is made as a whole, or not at all.

    Returns:
        The new folder.

    Raises:
        InputError: there is something at `new`.
        SourceError: the folder has no such weights, or they cannot be read or are not a whole model.
        MissingPackage: torch or h5py is not installed.
        StoreError: the disk is full, or may not be written.
    """
    source, target = (local_path(str(place), Path.cwd()) for place in (folder, new))
    _require_places(source, target)
    with store_faults(target, "NEW", base=target.parent):
        draft = Path(tempfile.mkdtemp(prefix=".edgebert-", dir=target.parent))
        try:
            made = draft / "model"  # with the rights that the umask leaves, unlike a temporary folder
            made.mkdir()
            _write(source, made)
            _check(source, made)
            made.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target


def _require_places(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise SourceError(f"The model folder {source} does not exist.", hint="Name the folder with config.json and weights.")
    if target.exists():
        raise InputError(f"{target} exists.", hint="Name a new folder.")
    if not target.parent.is_dir():
        raise InputError(f"There is no folder {target.parent}.", hint="Make it, or name another.")
    if (source / WEIGHTS).is_file() or (source / WEIGHTS_INDEX).is_file():
        raise SourceError(f"{source} has safetensors already.", hint="Name it as it is: `model` of a recipe.")


def _write(source: Path, made: Path) -> None:
    if tensorflow_weights(source) is not None:
        inspect_model(source).copy_to(made)
    else:
        _copy(source, made, ["config.json", *TOKENIZER_FILES])
        _unpickle(pickles_of(source), made / WEIGHTS)
    _copy(source, made, SENTENCES)
    for module in _modules(source):
        (made / module).mkdir(exist_ok=True)
        _copy(source / module, made / module, ["config.json", WEIGHTS])
        if not (made / module / WEIGHTS).is_file() and (source / module / PICKLE).is_file():
            _unpickle([source / module / PICKLE], made / module / WEIGHTS)


def _copy(source: Path, made: Path, names: Iterable[str]) -> None:
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, made / name)


def _modules(source: Path) -> list[str]:
    """Folders of a sentence-transformers model beside that of the encoder itself."""
    if not (source / "modules.json").is_file():
        return []
    try:
        listed = json.loads((source / "modules.json").read_text(encoding="utf-8"))
        paths = [str(module["path"]) for module in listed]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise SourceError(f"{source / 'modules.json'} is no list of modules.", hint=FETCH_AGAIN) from error
    paths = ["" if path == "." else path for path in paths]
    if wrong := next((path for path in paths if path and (PurePosixPath(path).name != path or path == "..")), None):
        raise SourceError(f"{source / 'modules.json'} names {wrong[:80]}, which is not in the folder.", hint=FETCH_AGAIN)
    return [path for path in paths if path and (source / path).is_dir()]


def pickles_of(source: Path) -> list[Path]:
    """The weights of a folder that PyTorch pickled: pytorch_model.bin, else the shards that its index names.

    Raises:
        SourceError: there are none, or a shard is missing.
    """
    if (source / PICKLE).is_file():
        return [source / PICKLE]
    if not (source / PICKLE_INDEX).is_file():
        raise SourceError(
            f"{source} has no weights that can be converted.",
            hint=f"Those are {PICKLE}, tf_model.h5 and bert_model.ckpt.index.",
        )
    named = read_json(source / PICKLE_INDEX).get("weight_map")
    names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    missing = [name for name in names if PurePosixPath(name).name != name or not (source / name).is_file()]
    if missing or not names:
        what = f"names {missing[0][:80]}, which is not in the folder" if missing else "names no weight files"
        raise SourceError(f"{source / PICKLE_INDEX} {what}.", hint="Fetch all the weight files.")
    return [source / name for name in names]


def _unpickle(files: Sequence[Path], out: Path) -> None:
    """Writes the tensors of some pickles to a safetensors file, in a process of its own.

    Raises:
        SourceError: a file is none that holds tensors alone, or the process took too much.
    """
    _require_torch()
    job = {"files": [str(file) for file in files], "out": str(out), "seconds": SECONDS}
    job["bytes"] = sum(file.stat().st_size for file in files)
    command = [sys.executable, "-P", "-m", "edgebert.models.unpickle"]  # -P: the current folder may hold a random.py
    try:
        done = subprocess.run(
            command, input=json.dumps(job), capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"{files[0]} was not read within {SECONDS // 60} minutes.", hint=TRUST) from error
    if done.returncode or not out.is_file():
        raise SourceError(f"{files[0]} cannot be read as tensors alone: {_reason(done)}.", hint=TRUST)


def _require_torch() -> None:
    from edgebert.core.packages import is_installed

    for package in ("torch", "safetensors"):
        if not is_installed(package):
            raise MissingPackage(package, needed_for="Reading a pickle of PyTorch")


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """What the process said, or how it ended: a limit of memory or time ends it without a word."""
    try:
        return str(json.loads(done.stdout.strip().splitlines()[-1])["failure"]).rstrip(".")
    except (ValueError, LookupError, TypeError):
        said = done.stderr.strip().splitlines()
        if done.returncode < 0 or not said or "MemoryError" in said[-1]:
            return "the process that read it took more memory or time than a file of this size needs"
        return said[-1][:200].rstrip(".")


def _check(source: Path, made: Path) -> None:
    """Raises SourceError, which names the source, unless the new folder is a model that edgebert can use."""
    try:
        inspect_model(made)
    except SourceError as error:
        raise SourceError(error.message.replace(str(made), str(source)), hint=error.hint) from error
