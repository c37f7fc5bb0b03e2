"""Delivery: what became of a bundle on one device."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgebert.devices.agent.protocol import Tried, VariantTrial
from edgebert.errors import DeviceError, InputError
from edgebert.report.file import NAME, read_report, write_report
from edgebert.report.report import Report

Outcome = Literal["switched", "unchanged", "refused", "failed", "interrupted", "rolled back", "not tried"]
SERVES: tuple[Outcome, ...] = ("switched", "unchanged")
"""Outcomes with which a device serves the bundle."""


@dataclass(frozen=True)
class Order:
    """How a bundle is shipped."""

    trial: VariantTrial = field(default_factory=VariantTrial)
    attempts: int = 3
    """How often a device is called where the connection is lost in the middle."""
    wait_s: float = 1.0
    """Before the second call; it doubles with each."""
    parallel: int = 4
    """Devices at a time."""
    canary: int = 0
    """How many devices go first, the others only if all of these serve the bundle."""
    reports: Path | None = None
    """Folder for the measurements of the devices."""


@dataclass
class Sent:
    """What travelled, over all calls of one device. Contents that had to travel twice count twice."""

    content_bytes: int = 0
    protocol_bytes: int = 0
    """Requests, events and answers, without the contents."""


@dataclass(frozen=True)
class Delivery:
    """One device's line."""

    device: str
    outcome: Outcome
    variant: str | None = None
    """What serves there now, where that is known."""
    p50_before_ms: float | None = None
    """Of what served when the first call began."""
    p50_ms: float | None = None
    sent_bytes: int = 0
    protocol_bytes: int = 0
    payload_bytes: int = 0
    seconds: float = 0.0
    reason: str | None = None
    tried: tuple[Tried, ...] = ()
    report: Path | None = None
    hint: str | None = None
    """What to do about the reason."""
    exit_code: int = 0
    """What this device alone would end the command with."""


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
