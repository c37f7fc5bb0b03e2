"""The files of a graph, found without the libraries that wrote them."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

from edgebert.errors import SourceError
from edgebert.runtimes import openers

LOCATION = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?[\x01-\x7f])", re.DOTALL)
"""The entry of an ONNX file that names the file of a tensor's numbers: a StringStringEntryProto (onnx.proto3): key 1 is
`location`, field 2 the file's name, its length before it as a varint."""
LFS_POINTER = b"version https://git-lfs"
"""First bytes of the text file that Git has instead of a large file."""


def graph_files(model: Path) -> dict[str, Path]:
    """Every file of an ONNX graph or an OpenVINO IR, by the name that it has in an artifact, such as `openvino_model.bin`.

    Raises:
        SourceError: a file is missing, or is no model file at all.
    """
    _check_file(model)
    runtime = next(iter(openers(model.suffix)), None)
    if runtime and runtime.container == "xml":
        weights = model.with_suffix(".bin")
        if not weights.is_file():
            hint = f"{runtime.file_title[0].upper()}{runtime.file_title[1:]} is both files; copy them together."
            raise SourceError(f"{model} has no {weights.name} beside it, which holds its weights.", hint=hint)
        return {runtime.model_file: model, Path(runtime.model_file).with_suffix(weights.suffix).name: weights}
    name = Path(runtime.model_file if runtime else model.name)
    files = {name.name: model}
    for location in external_files(model) if not runtime or runtime.container == "onnx" else ():
        if not (model.parent / location).is_file():
            raise SourceError(f"{model} keeps its weights in {location}, which is not beside it.", hint="Copy both together.")
        files[location.replace(model.stem, name.stem, 1)] = model.parent / location
    return files


def external_files(model: Path) -> list[str]:
    """Names of the files beside an ONNX file that hold its tensors, without names that lead out of the folder."""
    names = set()
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for match in LOCATION.finditer(content):
            length = sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(match[1]))
            names.add(bytes(content[match.end() : match.end() + length]).decode("utf-8", errors="replace"))
    return sorted(name for name in names if _stays_inside(name))


def _stays_inside(name: str) -> bool:
    return bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts and name.isprintable()


def _check_file(model: Path) -> None:
    try:
        with model.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise SourceError(f"{model} cannot be read: {error.strerror}.") from error
    if not start:
        raise SourceError(f"{model} is empty.", hint="It may be a partial download: fetch it again.")
    if start == LFS_POINTER:
        raise SourceError(f"{model} is a Git LFS pointer, not the model.", hint="Fetch the file itself: git lfs pull")
    runtime = next(iter(openers(model.suffix)), None)
    if runtime and runtime.container == "xml" and not start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise SourceError(f"{model} is not {runtime.file_title}: it is no XML.", hint="Name the .xml that save_model() wrote.")
