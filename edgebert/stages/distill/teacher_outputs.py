"""Teacher outputs: computed once, kept in the store as float16, mapped into memory when they are read.

What does not fit the bound is computed again each time it is needed, and rounded to float16 as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgebert.core.progress import Progress
from edgebert.core.store import Artifact, Draft
from edgebert.stages.examples import Examples

BLOCK = 1024
"""Examples between two marks of progress."""
BATCH = 32
HEADER = 1024
"""Bytes of a .npy file's header at most."""
LOGITS = "logits"
Halfs = npt.NDArray[np.float16]


@dataclass(frozen=True)
class RequestedOutputs:
    """What is wanted of a teacher."""

    names: tuple[str, ...]
    """As `edgebert.models.capture` names them; the logits always come."""
    limit_bytes: int
    precision: Literal["fp32", "bf16"]


@dataclass
class Teacher:
    """A teacher and its outputs for a set of examples."""

    model: Any
    examples: Examples
    """The student's examples, tokenised for this teacher."""
    wanted: RequestedOutputs
    folder: Path
    _arrays: dict[str, Halfs] = field(default_factory=dict)

    @property
    def cached(self) -> int:
        """How many examples, from the first, are on disk."""
        return len(self._array(LOGITS))

    def outputs(self, indices: Sequence[int]) -> dict[str, list[Any]]:
        """Name -> for each example a float32 tensor: `logits` of shape (labels,), the others of shape (tokens, width)."""
        import torch

        fresh = [index for index in indices if index >= self.cached]
        computed = dict(compute(self.model, self.examples, fresh, self.wanted)) if fresh else {}
        found: dict[str, list[Any]] = {name: [] for name in (LOGITS, *self.wanted.names)}
        for index in indices:
            for name, values in found.items():
                half = computed[index][name] if index in computed else self._read(name, index)
                values.append(torch.from_numpy(half.astype(np.float32)))
        return found

    def _read(self, name: str, index: int) -> Halfs:
        if name == LOGITS:
            row: Halfs = self._array(name)[index]
            return row
        offsets = self._array("offsets")
        rows: Halfs = self._array(name)[int(offsets[index]) : int(offsets[index + 1])]
        return rows

    def _array(self, name: str) -> Any:
        if name not in self._arrays:
            self._arrays[name] = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return self._arrays[name]


def compute(
    model: Any, examples: Examples, indices: Sequence[int], wanted: RequestedOutputs
) -> Iterator[tuple[int, dict[str, Halfs]]]:
    """The outputs of some examples, each with its index, as they come: in batches of like length, one of them in memory.

    While it works, the model is on the accelerator.
    """
    order = sorted(indices, key=lambda index: (examples.lengths[index], index))
    with _on_accelerator(model):
        for start in range(0, len(order), BATCH):
            yield from _of_batch(model, examples, order[start : start + BATCH], wanted)


@contextmanager
def _on_accelerator(model: Any) -> Iterator[None]:
    """Within it the model is where Accelerate trains; afterwards the memory there is the student's again."""
    from accelerate import PartialState

    before = next(model.parameters()).device
    model.to(PartialState().device)
    try:
        yield
    finally:
        model.to(before)


def _of_batch(
    model: Any, examples: Examples, indices: Sequence[int], wanted: RequestedOutputs
) -> Iterator[tuple[int, dict[str, Halfs]]]:
    import torch

    from edgebert.models.capture import captured

    device = next(model.parameters()).device
    bf16 = wanted.precision == "bf16"
    batch = {name: value.to(device) for name, value in examples.batch(indices, coarse=bf16).items() if name != "labels"}
    lower = torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)
    with torch.no_grad(), captured(model, wanted.names) as inside, lower:
        logits = model(**batch).logits
    halfs = {LOGITS: _half(logits), **{name: _half(value) for name, value in inside.items()}}
    for row, index in enumerate(indices):
        length = examples.lengths[index]
        yield index, {name: value[row] if name == LOGITS else value[row, :length] for name, value in halfs.items()}


def _half(value: Any) -> Halfs:
    array: Halfs = value.float().clamp(-65504, 65504).cpu().numpy().astype(np.float16)
    return array


def write_outputs(
    model: Any, examples: Examples, wanted: RequestedOutputs, draft: Draft, progress: Progress, title: str
) -> dict[str, Any]:
    """Fills the artifact, block by block; a run that was killed goes on after its last whole block."""
    count = fitting(model, examples, wanted)
    offsets = np.zeros(count + 1, dtype=np.int64)
    offsets[1:] = np.cumsum(examples.lengths[:count])
    arrays = _open(model, examples, wanted, count, int(offsets[-1]), draft.work)
    mark = draft.work / "done.json"
    done = min(_marked(mark), count)
    with progress.step(title, count) as bar:
        bar.skip_to(done)
        for start, stop in _blocks(done, count):
            for index, values in compute(model, examples, range(start, stop), wanted):
                for name, value in values.items():
                    where: Any = index if name == LOGITS else slice(int(offsets[index]), int(offsets[index + 1]))
                    arrays[name][where] = value
            for array in arrays.values():
                array.flush()
            partial = mark.with_suffix(".partial")
            partial.write_text(json.dumps({"examples": stop}))
            partial.replace(mark)
            bar.advance(stop - start)
    del arrays
    np.save(draft.out / "offsets.npy", offsets)
    for name in (LOGITS, *wanted.names):
        (draft.work / f"{name}.npy").replace(draft.out / f"{name}.npy")
    return {"examples": count, "of": len(examples)}


def _marked(mark: Path) -> int:
    """How many examples a killed run had finished."""
    try:
        return int(json.loads(mark.read_text())["examples"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or a power cut left half a mark
        return 0


def _blocks(done: int, count: int) -> Iterator[tuple[int, int]]:
    for start in range(done, count, BLOCK):
        yield start, min(start + BLOCK, count)


def _open(
    model: Any, examples: Examples, wanted: RequestedOutputs, count: int, tokens: int, work: Path
) -> dict[str, np.memmap[Any, np.dtype[np.float16]]]:
    """The arrays of a killed run, where they are whole; new ones otherwise.

    Raises:
        OSError: the disk has no room for them.
    """
    from edgebert.models.capture import width_of

    shapes = {LOGITS: (count, len(examples.serving.labels)), **{name: (tokens, width_of(model, name)) for name in wanted.names}}
    arrays = {}
    for name, shape in shapes.items():
        file = work / f"{name}.npy"
        if not _is_whole(file, shape):
            (work / "done.json").unlink(missing_ok=True)
            _reserve(file, shape)
        arrays[name] = np.lib.format.open_memmap(file, mode="r+")
    return arrays


def _is_whole(file: Path, shape: tuple[int, int]) -> bool:
    try:
        return file.is_file() and bool(np.load(file, mmap_mode="r", allow_pickle=False).shape == shape)
    except (ValueError, EOFError):  # killed while it was made
        return False


def _reserve(file: Path, shape: tuple[int, int]) -> None:
    """An array on disk with room for every byte: in a sparse file, a full disk would end the process by SIGBUS."""
    try:
        with file.open("wb") as handle:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(handle, header)
            if hasattr(os, "posix_fallocate"):  # macOS has none
                os.posix_fallocate(handle.fileno(), 0, handle.tell() + 2 * shape[0] * shape[1])
    except OSError:
        file.unlink(missing_ok=True)  # what was reserved until then would keep the disk full
        raise


def fitting(model: Any, examples: Examples, wanted: RequestedOutputs) -> int:
    """How many examples, from the first, fit the bound."""
    from edgebert.models.capture import width_of

    for_token = sum(2 * width_of(model, name) for name in wanted.names)
    sizes = np.cumsum(np.array(examples.lengths, dtype=np.int64) * for_token + 2 * len(examples.serving.labels) + 8)
    left = wanted.limit_bytes - HEADER * (len(wanted.names) + 2)
    return int(np.searchsorted(sizes, left, side="right"))


def identity(teacher: Artifact, examples: Examples, wanted: RequestedOutputs) -> Mapping[str, Any]:
    """Everything that decides the outputs, for the key."""
    return {
        "teacher": teacher.sha256,
        "data": [data.artifact.sha256 for data in examples.sets],
        "max_length": examples.serving.max_length,
        "names": list(wanted.names),
        "limit": wanted.limit_bytes,
        "precision": wanted.precision,
    }
