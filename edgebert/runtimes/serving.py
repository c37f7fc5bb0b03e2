"""Serving: how text becomes the batches that a session sees, the same for accuracy, latency, goldens and prediction."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgebert.errors import BundleError, EdgebertError, InputError
from edgebert.models.cut_side import Side, side_key
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Batch, Encoded, Row, Task, collate, set_truncation

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Serving:
    """Everything that a model needs besides its graph to answer a text."""

    task: Task
    labels: tuple[str, ...]
    max_length: int
    pad_id: int
    tokenizer: Path
    truncation_side: Side | None = None
    """Side of a long text that is cut off; None: as the tokenizer says."""
    tokenizer_sha256: str | None = None
    """What its content must be, for a bundle's that is opened by another process than the one that checked it."""

    def open_tokenizer(self, held: Path | None = None) -> Tokenizer:
        """Reads tokenizer.json. Nothing of the process changes meanwhile: other threads may be at work in it.

        Args:
            held: opens a checked copy of it; by default it is read where it lies.

        Raises:
            BundleError: it is not a tokenizer, or was altered.
        """
        from tokenizers import Tokenizer

        content = None if self.tokenizer_sha256 is None else _unaltered(self.tokenizer, self.tokenizer_sha256)
        with _panics_are_errors(f"{self.tokenizer} is not a tokenizer"):
            tokenizer = Tokenizer.from_file(str(held or self.tokenizer)) if content is None else Tokenizer.from_buffer(content)
            if self.truncation_side is not None:  # tasks that cut ask the tokenizer for the side
                set_truncation(tokenizer, self.max_length, direction=self.truncation_side)
            return tokenizer

    def tokenizer_key(self) -> dict[str, str]:
        """What keys of results say of the tokenizer: all that decides the tokens of a text."""
        from edgebert.core.artifact import hash_file  # the process that answers makes no keys

        return {"tokenizer": hash_file(self.tokenizer), **side_key(self.tokenizer)}

    def equals(self, other: Serving) -> bool:
        """Whether the same text becomes the same batch: then both may share one bundle, which has one tokenizer."""
        ours, theirs = replace(self, tokenizer=Path()), replace(other, tokenizer=Path())
        return ours == theirs and self.tokenizer.read_bytes() == other.tokenizer.read_bytes()

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row]) -> list[Encoded]:
        """Tokenises rows for the task.

        Raises:
            InputError: the tokenizer makes no token of a row, so that there is nothing for the model to read.
        """
        with _panics_are_errors(f"{self.tokenizer} cannot read a text"):
            encoded = self.task.encode(tokenizer, rows, self.max_length)
        if (nothing := next((item for item in encoded if not item.ids), None)) is not None:  # an empty one is false
            raise InputError(
                f"Text {nothing.row + 1} has no token: the model's tokenizer drops all of its characters, and adds none.",
                hint="Leave it out, or write something in it that the model knows.",
            )
        return encoded

    def batch(self, encoded: Sequence[Encoded], target: Target) -> Batch:
        """One padded batch, as the target wants it."""
        length = target.padded_length(max(map(len, encoded)), self.max_length)
        return collate(encoded, length=length, pad_id=self.pad_id)

    def batches(self, encoded: Sequence[Encoded], target: Target) -> Iterator[Batch]:
        """All examples in order, `target.batch` at a time."""
        for start in range(0, len(encoded), target.batch):
            yield self.batch(encoded[start : start + target.batch], target)


def _unaltered(file: Path, sha256: str) -> bytes:
    """The content of a file, read once, so that what is hashed is what is opened. Raises BundleError where it is another."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(f"{file} was altered after it was written.", hint="Fetch the bundle again.")
    return content


@contextlib.contextmanager
def _panics_are_errors(what: str) -> Iterator[None]:
    """Turns errors of tokenizers into BundleError: it raises plain Exception, and for a panic of its Rust side a BaseException.

    Raises:
        BundleError: with the library's own message.
    """
    try:
        yield
    except (EdgebertError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise BundleError(f"{what}: {error}", hint="Fetch the bundle again, or compress anew.") from error
