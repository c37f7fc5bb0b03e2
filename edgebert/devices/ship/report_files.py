"""Where the reports of devices go. Neither a device nor a bundle decides where anything is written here."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from edgebert.errors import DeviceError, InputError
from edgebert.report.file import NAME, read_report, write_report
from edgebert.report.report import Report

LONGEST = 100
"""Characters of a name that go into a file's name."""


def safe_name(name: str) -> str:
    """The name where it can name a file everywhere; else what can of it, and a mark that tells it from others."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:LONGEST].strip(".-")
    if plain == name and name != Path(NAME).stem:  # in a folder, that file is read as the folder's only report
        return name
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}-{mark}" if plain else mark


def open_folder(place: Path | None, bundle: str) -> Path:
    """The folder for a bundle's reports, made; `ships/<bundle>` where none is named.

    Raises:
        InputError: it cannot be made, or not written to.
    """
    folder = place or Path("ships") / safe_name(bundle)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"{folder} cannot hold the reports: {error.strerror}.", hint="Name a folder with --reports."
        ) from error
    return folder


def write_device_report(folder: Path, device: str, content: dict[str, Any]) -> Path:
    """Writes what a device measured as `<device>.json`, after it was read as any report is.

    Raises:
        DeviceError: it is no report.
        InputError: the place cannot be written.
    """
    path = folder / f"{safe_name(device)}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_report(path, _checked(content, device, folder))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.", hint="Name a folder with --reports.") from error
    return path


def _checked(content: dict[str, Any], device: str, folder: Path) -> Report:
    with tempfile.TemporaryDirectory(prefix=".edgebert-", dir=folder) as scratch:
        draft = Path(scratch) / NAME
        draft.write_text(json.dumps(content), encoding="utf-8")
        try:
            return read_report(draft)
        except InputError as error:
            reason = error.message.replace(str(draft), "it")
            raise DeviceError(f"{device} sent a report that cannot be used: {reason}") from error
