"""The format of a data file: what the recipe says, otherwise what the file's ending and its beginning say."""

from __future__ import annotations

from pathlib import Path

from edgebert.data.arrow_files import is_saved
from edgebert.data.spec import DATA_FORMATS, DataSpec
from edgebert.data.text_files import ending_of
from edgebert.data.text_open import PACKED, open_bytes, require_file
from edgebert.errors import DataError

ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".conll": "conll",
    ".bio": "conll",
}
BINARY = ("parquet", "arrow")
UNPACK = "Unpack it, and name the file that was in it."
TABLE = "Save its rows as CSV (UTF-8)."
OBJECTS = "Loading it could run code: write the rows as Parquet, df.to_parquet(FILE), or as JSON Lines."
ADVICE = {
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), TABLE),
    **dict.fromkeys((".zip", ".bz2", ".xz", ".zst", ".7z", ".rar", ".tar", ".tgz"), UNPACK),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".joblib", ".npy", ".npz"), OBJECTS),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3", ".h5", ".hdf5", ".xml", ".html"), TABLE),
}
"""Ending of a file that is not read -> what to do."""
SNIFFED_BYTES = 1 << 16


def file_format(spec: DataSpec, path: Path) -> str:
    """The format that the recipe names, otherwise the format of the file's ending; `saved`: a folder of `save_to_disk`.

    Raises:
        DataError: the ending is unknown.
    """
    if path.is_dir():
        if not is_saved(path):
            require_file(path)
        return "saved"
    ending = ending_of(path)
    kind = str(spec.format) if spec.format else _of_ending(path, ending)
    if kind in BINARY and path.suffix.lower() == PACKED:
        raise DataError(f"{path} is packed, and {kind.capitalize()} is read as it is.", hint="Unpack it: gunzip FILE")
    return kind


def _of_ending(path: Path, ending: str) -> str:
    if ending == ".json" and path.is_file():
        with open_bytes(path) as file:
            try:
                return "squad" if b'"paragraphs"' in file.read(SNIFFED_BYTES) else "jsonl"
            except (OSError, EOFError):  # not packed, although its ending says so: refused when it is read
                return "jsonl"
    if ending not in ENDINGS:
        known = ", ".join(sorted(DATA_FORMATS))
        hint = ADVICE.get(ending, f"Add `format:` ({known}).")
        raise DataError(f"{path}: the ending {ending!r} does not say what it is.", hint=hint)
    return ENDINGS[ending]
