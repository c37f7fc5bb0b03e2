"""Opens the text files that users name: regular files alone, `.gz` unpacked; UTF-16 and UTF-32 by their mark, else UTF-8."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from edgebert.errors import DataError

BLOCK_CHARACTERS = 1 << 20
LONGEST_LINE = 1 << 26
"""Most characters of a line of CSV, JSON Lines or CoNLL; a longer one would fill the memory."""
PACKED = ".gz"
MOST_TIMES = 200
"""Most characters that a packed file may have for each of its bytes, from SMALL characters on; texts have up to 30."""
SMALL = 1 << 28
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
OTHER_KINDS = (
    (b"\x1f\x8b", "packed with gzip", "Give its name the ending .gz, or unpack it."),
    (b"PK\x03\x04", "a ZIP archive or an Excel file", "Unpack it, or save the sheet as CSV (UTF-8)."),
    (b"PAR1", "a Parquet file", "Add `format: parquet`."),
    (b"ARROW1", "an Arrow file", "Add `format: arrow`."),
    (b"BZh", "packed with bzip2", "Unpack it: bunzip2 FILE"),
    (b"\xfd7zXZ", "packed with xz", "Unpack it: unxz FILE"),
    (b"\x28\xb5\x2f\xfd", "packed with Zstandard", "Unpack it: unzstd FILE"),
    (b"%PDF", "a PDF", "Write its rows into a CSV."),
    (b"SQLite format 3", "a database", "Export the table as CSV."),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file itself", "Fetch it: git lfs pull"),
    (b"<!DOCTYPE html", "a web page and not a data file", "Download the raw file."),
)
"""First bytes of files that are taken for text by mistake, what they are, and the remedy."""
CONVERT = (
    "Save it as UTF-8, or convert it: iconv -f ENCODING -t utf-8 OLD > NEW, with the encoding of the program that wrote it, "
    "often windows-1252 (Western Europe), gb18030 (Chinese) or shift_jis (Japanese)."
)


def require_file(path: Path) -> None:
    """Raises DataError if there is no such file, or it is no regular one: a pipe can be read only once, a device has no end."""
    if path.is_dir():
        raise DataError(f"The data file {path} is a folder.", hint="Name a file in it.")
    if path.exists() and not path.is_file():
        hint = "Data are read more than once: write the rows into a file, and name that."
        raise DataError(f"The data file {path} is a pipe or a device, and no regular file.", hint=hint)
    if not path.is_file():
        raise DataError(
            f"The data file {path} does not exist.", hint="Correct it under `data` in the recipe, or --set data.eval=FILE"
        )


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, unpacked."""
    if path.suffix.lower() == PACKED:
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")


def encoding_of(path: Path) -> str:
    """UTF-16 or UTF-32 where the file begins with such a mark, else UTF-8, of which a mark is dropped."""
    with open_bytes(path) as file:
        first = file.read(4)
    return next((name for mark, name in MARKS if first.startswith(mark)), "utf-8-sig")


def open_text(path: Path, newline: str | None = None) -> TextIO:
    """The file's text, of a file that `check_file` has passed."""
    return io.TextIOWrapper(open_bytes(path), encoding=encoding_of(path), newline=newline)


def lines_of(path: Path, newline: str | None = None) -> Iterator[str]:
    """The file's lines with their ends.

    Raises:
        DataError: a line is too long to be one.
    """
    with open_text(path, newline) as file:
        while line := file.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE and line[-1] not in "\r\n":
                hint = "Is it another format? A text of that length is no row."
                raise DataError(f"{path} has a line of more than {LONGEST_LINE:,} characters.", hint=hint)
            yield line


def check_file(path: Path, *, text: bool) -> None:
    """Raises DataError if the file is missing, empty or, where it should be text, cannot be decoded. Reads it in blocks."""
    require_file(path)
    if path.stat().st_size == 0:
        raise DataError(f"The data file {path} is empty.", hint="Name one with rows: --set data.eval=FILE")
    if text:
        try:
            _check_text(path)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            hint = "It may be a partial copy: fetch it again. A file that is not packed has no such ending."
            raise DataError(f"{path} cannot be unpacked: {error}.", hint=hint) from error


def _check_text(path: Path) -> None:
    with open_bytes(path) as packed:
        _refuse_other_kinds(path, packed.read(64))
    line, characters, most = 1, 0, max(SMALL, MOST_TIMES * path.stat().st_size)
    try:
        with open_text(path, newline="") as file:
            while block := file.read(BLOCK_CHARACTERS):
                line, characters = line + block.count("\n"), characters + len(block)
                if "\0" in block:
                    raise _holds_nul(path, line)
                if path.suffix.lower() == PACKED and characters > most:
                    raise DataError(f"{path} unpacks to more than {MOST_TIMES} times its size.", hint="That is no data file.")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x}"
        raise DataError(f"{path} is not {_title(path)} text, near line {line} ({byte}).", hint=CONVERT) from error


def _title(path: Path) -> str:
    return encoding_of(path).removesuffix("-sig").upper()


def _refuse_other_kinds(path: Path, first: bytes) -> None:
    for start, kind, hint in OTHER_KINDS:
        if first.lstrip()[: len(start)].lower() == start.lower():
            raise DataError(f"{path} is {kind}, not text.", hint=hint)


def _holds_nul(path: Path, line: int) -> DataError:
    with open_bytes(path) as file:
        first = file.read(BLOCK_CHARACTERS)
    low, high = first[0::2].count(0), first[1::2].count(0)
    if max(low, high) > len(first) // 8:  # every second byte of Latin text in UTF-16 is 0
        name = "utf-16le" if high > low else "utf-16be"
        hint = f"It looks like UTF-16 without its mark: iconv -f {name} -t utf-8 OLD > NEW"
    else:
        hint = "Is it another format? Convert it, or add `format:`."
    return DataError(f"{path} holds NUL bytes near line {line}; it is not a text file.", hint=hint)
