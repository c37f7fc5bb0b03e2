"""Report files: written atomically, with a checksum; read strictly and in bounded memory, whatever the file holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgebert.core.files import write_whole
from edgebert.core.store import hash_json
from edgebert.errors import InputError
from edgebert.report.bounded import parse, read_plain
from edgebert.report.packed import MOST, packed_count
from edgebert.report.report import Report
from edgebert.report.upgrade import upgraded

NAME = "report.json"
MOST_ENTRIES = 5000
"""Most entries of a report: sweeps have hundreds."""
AGAIN = "Take the file as it was written, or measure again."
VERSION: int = Report.model_fields["schema_version"].default
CHECKSUM = "sha256"
"""Key of the checksum: sha256 of the JSON of all other keys, sorted, without spaces. Files of schema version 1 have none."""


def report_text(report: Report) -> str:
    """The text of a report's file."""
    content = json.loads(report.model_dump_json())
    return json.dumps({**content, CHECKSUM: hash_json(content)}, indent=1) + "\n"


def write_report(path: Path, report: Report) -> None:
    """Writes a report, or nothing.

    Raises:
        InputError: the file cannot be written.
    """
    write_whole(path, report_text(report))


def read_report(path: Path) -> Report:
    """Reads a report file.

    Raises:
        InputError: the file is no report, is of a newer version, was altered, or holds values that no measurement gives.
    """
    raw = _read(path)
    content = _checked_content(path, raw)
    try:
        if content["schema_version"] < VERSION:
            return Report.model_validate_json(json.dumps({**upgraded(content), CHECKSUM: json.loads(raw).get(CHECKSUM)}))
        return Report.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "".join(f"{part}." for part in first["loc"]).rstrip(".")
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path} is not a valid report: {f'{where}: ' if where else ''}{message}.", hint=AGAIN) from error
    except ValueError as error:  # of upgraded()
        raise InputError(f"{path} is not a valid report: {error}.", hint=AGAIN) from error


def read_reports(paths: Sequence[Path]) -> Iterator[tuple[Path, Report]]:
    """The reports of files and of folders: a run's or a bundle's own `report.json`, else every JSON file of the folder.

    Raises:
        InputError: a path has no report, or one that cannot be read.
    """
    for path in paths:
        for file in report_files(path):
            yield file, read_report(file)


def is_report(path: Path) -> bool:
    """Whether a file is a report of edgebert, of any version, valid or not."""
    try:
        content = parse(read_plain(path))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "schema_version" in content and "entries" in content


def report_files(path: Path) -> list[Path]:
    """The report files at a path: the file itself, a folder's `report.json`, or all JSON files of the folder.

    Raises:
        InputError: there is none.
    """
    if not path.exists():
        raise InputError(f"There is no report {path}.", hint="`edgebert compress` and `edgebert bench` write them.")
    if not path.is_dir():
        return [path]
    if (path / NAME).is_file():
        return [path / NAME]
    files = sorted(file for file in path.glob("*.json") if file.is_file())
    if not files:
        raise InputError(f"The folder {path} holds no report.", hint=f"A run's folder has a {NAME}.")
    return files


def _read(path: Path) -> bytes:
    try:
        return read_plain(path)
    except ValueError as fault:
        named = str(fault).removeprefix("it ")
        raise InputError(f"{path} {named}.", hint="Name a report.json, or the folder of a run.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _checked_content(path: Path, raw: bytes) -> dict[str, Any]:
    """The parsed file, which is a whole and unaltered report of a known version; its fields are not validated yet."""
    try:
        content: Any = parse(raw)
    except ValueError as fault:
        reason = str(fault) if raw.strip() else "it is empty"
        raise InputError(f"{path} is not a report: {reason}.", hint=AGAIN) from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1 or "entries" not in content:
        raise InputError(f"{path} is not a report of edgebert.", hint=f"Name a {NAME} that compress or bench wrote.")
    if version > VERSION:
        raise InputError(
            f"{path} is a report of version {version}; this edgebert reads versions 1 to {VERSION}.",
            hint="Update it: pip install --upgrade edgebert",
        )
    if version > 1 and content.pop(CHECKSUM, None) != hash_json(content):
        raise InputError(f"{path} was altered after it was written: its checksum is another.", hint=AGAIN)
    if isinstance(content["entries"], list) and len(content["entries"]) > MOST_ENTRIES:
        raise InputError(f"{path} has more than {MOST_ENTRIES} entries; no report does.", hint=AGAIN)
    if (samples := packed_count(content)) > MOST:
        raise InputError(f"{path} says that it holds {samples} samples, more than {MOST}; no report does.", hint=AGAIN)
    return dict(content)
