"""The weight files of a model folder: found, and their headers read and checked, without loading a tensor. safetensors only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgebert.errors import SourceError
from edgebert.models.json_file import read_json

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
HEADER_LIMIT = 16 << 20
"""Bytes of a header. BERT-large has 40 KiB; a header is parsed as a whole, into some ten times its size."""
MOST_DIMENSIONS = 8
WIDTHS = {"BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4}
WIDTHS |= {"U64": 8, "I64": 8, "F64": 8, "F8_E4M3": 1, "F8_E5M2": 1}
"""dtype of safetensors -> bytes of a value."""
FLOATS = ("F16", "BF16", "F32", "F64")
FETCH_AGAIN = "It may be a partial download or a Git LFS pointer: fetch it again."


@dataclass(frozen=True)
class Tensor:
    """What a header says of a tensor."""

    dtype: str
    """As safetensors names it, such as F32."""
    shape: tuple[int, ...]
    file: str
    """Name of the weight file that holds it."""

    @property
    def floating(self) -> bool:
        """Whether its values are floating-point numbers of 16 bits or more."""
        return self.dtype in FLOATS


def weight_files(path: Path) -> tuple[str, ...]:
    """Names of the weight files of a folder: model.safetensors where there is one, as Transformers chooses, else the shards.

    Raises:
        SourceError: there is none, only a pickle, or a shard is missing.
    """
    if (path / WEIGHTS).is_file():
        return (WEIGHTS,)
    if (path / WEIGHTS_INDEX).is_file():
        return tuple(sorted(set(_shard_of(path / WEIGHTS_INDEX).values())))
    pickled = [file.name for pattern in PICKLED for file in sorted(path.glob(pattern))]
    if pickled:
        raise SourceError(
            f"{path} has its weights only as {pickled[0]}; edgebert reads safetensors only, because a pickle can run code.",
            hint="Write a new folder with it, in a process that runs none of its code: edgebert convert FOLDER NEW",
        )
    raise SourceError(f"{path} has no {WEIGHTS}.", hint="Name the folder that save_pretrained() wrote.")


def _shard_of(index: Path) -> dict[str, str]:
    """Name of a tensor -> name of the file that holds it."""
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(shard, str) for shard in files.values()):
        raise SourceError(f"{index} names no weight files.", hint="It may be a partial download: fetch it again.")
    for shard in sorted(set(files.values())):
        if PurePosixPath(shard).name != shard or not _is_file(index.parent / shard):
            raise SourceError(f"{index} names {shard[:80]}, which is not in the folder.", hint="Fetch all the weight files.")
    return files


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that the system refuses
        return False


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> dtype, shape and file of all tensors of a folder.

    Raises:
        SourceError: a weight file is missing or damaged, or the index names another file for a tensor than the one it is in.
    """
    found: dict[str, Tensor] = {}
    for file in weight_files(path):
        for name, tensor in read_header(path / file).items():
            if name in found:
                raise _wrong_index(path, f"{name} is in {found[name].file} and in {file}")
            found[name] = tensor
    if not (path / WEIGHTS).is_file():
        _check_index(path, found)
    return found


def _check_index(path: Path, found: Mapping[str, Tensor]) -> None:
    named = _shard_of(path / WEIGHTS_INDEX)
    for name in sorted({*named, *found}):
        if name not in found:
            raise _wrong_index(path, f"{name} is not in {named[name]}")
        if named.get(name) != found[name].file:
            raise _wrong_index(path, f"{name} is in {found[name].file}, and the index does not say so")


def _wrong_index(path: Path, why: str) -> SourceError:
    return SourceError(
        f"{path / WEIGHTS_INDEX} does not fit the weight files: {why}.",
        hint="Its files may be of different checkpoints: fetch all of them again.",
    )


def count_parameters(folder: Path) -> int:
    """Number of floating-point values in the weights of a model folder. Integers are buffers, such as BERT's position_ids.

    Raises:
        SourceError: weight files are missing or incomplete.
    """
    return sum(math.prod(tensor.shape) for tensor in read_tensors(folder).values() if tensor.dtype.startswith(("F", "BF")))


def read_header(file: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file: 8 bytes of length (little endian), a JSON object, then the values without a gap.

    Raises:
        SourceError: the file is not a whole safetensors file.
    """
    try:
        with file.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if length > min(file.stat().st_size, HEADER_LIMIT):
                raise ValueError
            entries = json.loads(handle.read(length))
        entries.pop("__metadata__", None)
        _check_offsets(entries, file.stat().st_size - 8 - length)
        return {name: Tensor(entry["dtype"], tuple(entry["shape"]), file.name) for name, entry in entries.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise SourceError(f"{file} is not a whole safetensors file.", hint=FETCH_AGAIN) from error


def _check_offsets(entries: Mapping[str, Any], size: int) -> None:
    """Raises ValueError, LookupError or TypeError unless the tensors fill the bytes after the header without gap or overlap."""
    end = 0
    for entry in sorted(entries.values(), key=lambda entry: tuple(entry["data_offsets"])):
        shape, (start, stop) = entry["shape"], entry["data_offsets"]
        numbers = (*shape, start, stop)
        if len(shape) > MOST_DIMENSIONS or not all(type(number) is int and 0 <= number <= size for number in numbers):
            raise ValueError
        if start != end or stop - start != math.prod(shape) * WIDTHS[entry["dtype"]]:
            raise ValueError
        end = stop
    if end != size:
        raise ValueError
