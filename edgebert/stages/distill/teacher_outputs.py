"""Teacher outputs: computed once, kept in the store as float16, mapped into memory when they are read.

Outputs beyond the size limit are computed again each time they are needed, and rounded to float16 as well.
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

from edgebert.core.progress import Progress
from edgebert.core.store import Artifact, Draft
from edgebert.stages.distill.output_blocks import LOGITS, Halfs, hash_of, of_tokens, rows_of, whole_blocks
from edgebert.stages.distill.pooled import captured_name, captured_names, with_pooled
from edgebert.stages.examples import Examples

BLOCK = 1024
"""Examples between two records of progress."""
BATCH = 32
HEADER = 1024
"""Most bytes of a .npy file's header."""


@dataclass(frozen=True)
class RequestedOutputs:
    """Which outputs of a teacher are needed, how large they may become on disk, and their precision."""

    names: tuple[str, ...]
    """Names of `edgebert.models.capture`, or of pooled states; the logits are always included."""
    limit_bytes: int
    precision: Literal["fp32", "bf16"]


@dataclass
class Teacher:
    """A teacher, with its outputs for a set of examples."""

    model: Any
    examples: Examples
    """The student's examples, tokenised for this teacher."""
    requested: RequestedOutputs
    folder: Path
    _arrays: dict[str, Halfs] = field(default_factory=dict)
    _same_tokenizer: bool | None = None

    def reads_as(self, examples: Examples) -> bool:
        """Whether its tokenizer is that of other examples."""
        if self._same_tokenizer is None:
            self._same_tokenizer = self.examples.serving.equals(examples.serving)
        return self._same_tokenizer

    @property
    def cached(self) -> int:
        """Number of examples, from the first, whose outputs are on disk."""
        return len(self._array("offsets")) - 1

    def outputs(self, indices: Sequence[int]) -> dict[str, list[Any]]:
        """Name -> for each example a float32 tensor: `logits` of shape (labels,) or, for a task that labels tokens, (tokens,
        labels); the others of shape (tokens, width), pooled ones (width,)."""
        import torch

        fresh = [index for index in indices if index >= self.cached]
        computed = dict(compute(self.model, self.examples, fresh, self.requested)) if fresh else {}
        outputs: dict[str, list[Any]] = {name: [] for name in (LOGITS, *self.requested.names)}
        for index in indices:
            for name, values in outputs.items():
                half = computed[index][name] if index in computed else self._read(name, index)
                values.append(torch.from_numpy(half.astype(np.float32)))
        return outputs

    def _read(self, name: str, index: int) -> Halfs:
        if not of_tokens(name, self.examples.serving.task):
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
    model: Any, examples: Examples, indices: Sequence[int], requested: RequestedOutputs
) -> Iterator[tuple[int, dict[str, Halfs]]]:
    """Yields examples' outputs with their indices, in batches of similar length; one batch is in memory at a time.

    Meanwhile the model is on the accelerator.
    """
    order = sorted(indices, key=lambda index: (examples.lengths[index], index))
    with _on_accelerator(model):
        for start in range(0, len(order), BATCH):
            yield from _of_batch(model, examples, order[start : start + BATCH], requested)


@contextmanager
def _on_accelerator(model: Any) -> Iterator[None]:
    """Moves the model to the device that Accelerate trains on, and back: the memory there is the student's."""
    from accelerate import PartialState

    before = next(model.parameters()).device
    model.to(PartialState().device)
    try:
        yield
    finally:
        model.to(before)


def _of_batch(
    model: Any, examples: Examples, indices: Sequence[int], requested: RequestedOutputs
) -> Iterator[tuple[int, dict[str, Halfs]]]:
    import torch

    from edgebert.models.capture import captured
    from edgebert.models.load import run_model

    task, device = examples.serving.task, next(model.parameters()).device
    bf16 = requested.precision == "bf16"
    batch = {name: value.to(device) for name, value in examples.batch(indices, coarse=bf16).items() if name != "labels"}
    lower = torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)
    with torch.no_grad(), captured(model, captured_names(requested.names)) as inside, lower:
        logits = task.combined(run_model(model, batch))
    found = with_pooled(requested.names, inside, batch["attention_mask"], task)
    halfs = {LOGITS: _half(logits), **{name: _half(value) for name, value in found.items()}}
    for row, index in enumerate(indices):
        length = examples.lengths[index]
        yield (
            index,
            {name: value[row, :length] if of_tokens(name, task) else value[row] for name, value in halfs.items()},
        )


def _half(value: Any) -> Halfs:
    array: Halfs = value.float().clamp(-65504, 65504).cpu().numpy().astype(np.float16)
    return array


def write_outputs(
    model: Any, examples: Examples, requested: RequestedOutputs, draft: Draft, progress: Progress, title: str
) -> dict[str, Any]:
    """Fills the artifact block by block; after a kill, the next run continues after the last block that is as it was."""
    task, count = examples.serving.task, fitting(model, examples, requested)
    offsets = np.zeros(count + 1, dtype=np.int64)
    offsets[1:] = np.cumsum(examples.lengths[:count])
    arrays = _open(model, examples, requested, count, int(offsets[-1]), draft.work)
    record = draft.work / "done.json"
    hashes = whole_blocks(record, _blocks(0, count), arrays, offsets, task)
    done = min(len(hashes) * BLOCK, count)
    with progress.step(title, count) as bar:
        bar.skip_to(done)
        for start, stop in _blocks(done, count):
            for index, values in compute(model, examples, range(start, stop), requested):
                for name, value in values.items():
                    arrays[name][rows_of(name, offsets, index, index + 1, task)] = value
            for array in arrays.values():
                array.flush()
            partial = record.with_suffix(".partial")
            hashes.append(hash_of(arrays, offsets, start, stop, task))
            partial.write_text(json.dumps({"blocks": hashes}))
            partial.replace(record)
            bar.advance(stop - start)
    del arrays
    np.save(draft.out / "offsets.npy", offsets)
    for name in (LOGITS, *requested.names):
        (draft.work / f"{name}.npy").replace(draft.out / f"{name}.npy")
    return {"examples": count, "of": len(examples)}


def _blocks(done: int, count: int) -> Iterator[tuple[int, int]]:
    for start in range(done, count, BLOCK):
        yield start, min(start + BLOCK, count)


def _open(
    model: Any, examples: Examples, requested: RequestedOutputs, count: int, tokens: int, work: Path
) -> dict[str, np.memmap[Any, np.dtype[np.float16]]]:
    """Opens the arrays on disk: those of a killed run where they are whole, new ones otherwise.

    Raises:
        OSError: the disk has no space for them.
    """
    from edgebert.models.capture import width_of

    shapes = {
        LOGITS: (tokens if of_tokens(LOGITS, examples.serving.task) else count, _taught_width(model, examples)),
        **{
            name: (tokens if of_tokens(name, examples.serving.task) else count, width_of(model, captured_name(name)))
            for name in requested.names
        },
    }
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
    except (ValueError, EOFError):  # the run was killed while it made the file
        return False


def _reserve(file: Path, shape: tuple[int, int]) -> None:
    """Makes an array on disk with all of its bytes allocated: writing to a sparse file on a full disk raises SIGBUS."""
    try:
        with file.open("wb") as handle:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(handle, header)
            if hasattr(os, "posix_fallocate"):  # macOS has none
                os.posix_fallocate(handle.fileno(), 0, handle.tell() + 2 * shape[0] * shape[1])
    except OSError:
        file.unlink(missing_ok=True)  # the bytes allocated so far would keep the disk full
        raise


def fitting(model: Any, examples: Examples, requested: RequestedOutputs) -> int:
    """Number of examples, from the first, whose outputs fit the size limit: none where a token has the whole vocabulary."""
    from edgebert.models.capture import width_of

    if any("vocabulary" in output.axes for output in examples.serving.task.outputs):
        return 0
    logits = 2 * _taught_width(model, examples)
    labels_tokens = of_tokens(LOGITS, examples.serving.task)
    widths = {name: 2 * width_of(model, captured_name(name)) for name in requested.names}
    pooled = sum(width for name, width in widths.items() if not of_tokens(name, examples.serving.task))
    bytes_per_token = sum(widths.values()) - pooled + (logits if labels_tokens else 0)
    bytes_each = 8 + pooled + (0 if labels_tokens else logits)
    sizes = np.cumsum(np.array(examples.lengths, dtype=np.int64) * bytes_per_token + bytes_each)
    available = requested.limit_bytes - HEADER * (len(requested.names) + 2)
    return int(np.searchsorted(sizes, available, side="right"))


def _taught_width(model: Any, examples: Examples) -> int:
    """Numbers that the outputs which teach have for an example, or for a token: labels, or what the model answers."""
    if labels := len(examples.serving.labels):
        return labels
    _, outputs = next(_of_batch(model, examples, [0], RequestedOutputs((), 0, "fp32")))
    return int(outputs[LOGITS].shape[-1])


def identity(teacher: Artifact, examples: Examples, requested: RequestedOutputs) -> Mapping[str, Any]:
    """Everything that decides the outputs, for their key in the store."""
    return {
        "teacher": teacher.sha256,
        "data": [data.artifact.sha256 for data in examples.sets],
        "max_length": examples.serving.max_length,
        "names": list(requested.names),
        "limit": requested.limit_bytes,
        "precision": requested.precision,
        **({"task": options} if (options := examples.serving.task.options.key) else {}),
    }
