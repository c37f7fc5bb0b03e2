"""Reads what Arrow wrote, block by block: Parquet, Arrow and Feather files, and the folders of `save_to_disk`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgebert.errors import DataError

Rows = Iterator[dict[str, Any]]
METADATA = b"huggingface"
"""Key of a schema's metadata under which `datasets` keeps the features of the columns."""
BLOCK_ROWS = 1000
BLOCK_BYTES = 1 << 20
STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
PARTIAL = "It may be a partial copy: fetch or write it again."
UNREADABLE = (OSError, ValueError, OverflowError, ArithmeticError)
"""What Arrow raises for a damaged file, and for values that Python has no type for; its own errors are ValueErrors, too."""


def read_parquet(path: Path) -> Rows:
    """Rows of a Parquet file, read through a small buffer: `datasets` would keep whole row groups in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=BLOCK_BYTES, pre_buffer=False) as file:
            for block in file.iter_batches(batch_size=BLOCK_ROWS):
                yield from block.to_pylist()
    except (pa.ArrowException, *UNREADABLE) as error:
        raise _unreadable(path, "PARQUET", error) from error


def read_arrow(path: Path) -> Rows:
    """Rows of an Arrow stream, as `datasets` writes, or of an Arrow or Feather file."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            for batch in _batches(source):
                for start in range(0, batch.num_rows, BLOCK_ROWS):
                    yield from batch.slice(start, BLOCK_ROWS).to_pylist()
    except (pa.ArrowException, *UNREADABLE) as error:
        raise _unreadable(path, "ARROW", error) from error


def _batches(source: Any) -> Iterator[Any]:
    import pyarrow as pa

    try:
        reader = pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        file = pa.ipc.open_file(source)
        yield from (file.get_batch(index) for index in range(file.num_record_batches))
    else:
        yield from reader


def is_saved(path: Path) -> bool:
    """Whether a folder is one of `save_to_disk`, a data set or several splits."""
    return path.is_dir() and any((path / name).is_file() for name in (STATE, SPLITS))


def saved_files(folder: Path) -> list[Path]:
    """The files of a data set that `save_to_disk` wrote, in order: the rows, and what describes them.

    Raises:
        DataError: the folder holds several splits, or rows in another order than its files, or is damaged.
    """
    if not (folder / STATE).is_file():
        splits = _json(folder / SPLITS).get("splits")
        known = [name for name in splits if isinstance(name, str)] if isinstance(splits, list) else []
        hint = f"Name one of them: {', '.join(str(folder / name) for name in known)}" if known else "Name a folder in it."
        raise DataError(f"The folder {folder} holds several splits of a data set.", hint=hint)
    state = _json(folder / STATE)
    listed = state.get("_data_files")
    names = [item.get("filename") if isinstance(item, dict) else None for item in listed] if isinstance(listed, list) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise DataError(f"{folder / STATE} does not name the data set's files.", hint=PARTIAL)
    if state.get("_indices_files"):
        hint = "Write them in order: dataset.flatten_indices().save_to_disk(FOLDER)"
        raise DataError(f"The folder {folder} holds its rows in another order than they are meant.", hint=hint)
    files = [folder / str(name) for name in names]
    if missing := next((file for file in files if not file.is_file()), None):
        raise DataError(f"{missing} does not exist, although {folder / STATE} names it.", hint=PARTIAL)
    return [*files, *(file for name in (STATE, INFO) if (file := folder / name).is_file())]


def read_saved(folder: Path) -> Rows:
    """Rows of a folder that `save_to_disk` wrote."""
    for file in saved_files(folder):
        if file.name not in (STATE, INFO):
            yield from read_arrow(file)


def schema_metadata(path: Path, kind: str) -> Mapping[bytes, bytes]:
    """Metadata of the file's schema; empty for files without any, and for damaged ones: reading refuses them."""
    try:
        return _metadata(path, kind)
    except (ImportError, DataError, *UNREADABLE):
        return {}


def _metadata(path: Path, kind: str) -> Mapping[bytes, bytes]:
    if kind == "saved":
        return {METADATA: json.dumps({"info": _json(path / INFO)}).encode()} if (path / INFO).is_file() else {}
    if kind == "parquet":
        import pyarrow.parquet as pq

        return pq.read_schema(path).metadata or {}
    if kind != "arrow":
        return {}
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        try:
            return pa.ipc.open_stream(source).schema.metadata or {}
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_file(source).schema.metadata or {}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {type(error).__name__}.", hint=PARTIAL) from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not what `save_to_disk` writes.", hint=PARTIAL)
    return content


def _unreadable(path: Path, kind: str, error: BaseException) -> DataError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return DataError(f"{path} cannot be read as {kind}: {first}", hint=PARTIAL)
