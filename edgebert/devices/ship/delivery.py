"""Delivery: how a bundle is to be shipped, the outcome on one device, and the file of its report."""

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
LONGEST = 100
"""Characters of a name that go into a file's name."""


@dataclass(frozen=True)
class Order:
    """How a bundle is to be shipped."""

    trial: VariantTrial = field(default_factory=VariantTrial)
    attempts: int = 3
    """Connections to a device, where each is lost in the middle."""
    wait_s: float = 1.0
    """Seconds before the second connection; they double with each further one."""
    parallel: int = 4
    """Devices at a time."""
    canary: int = 0
    """Number of devices that go first; the others follow only if all of these serve the bundle."""
    reports: Path | None = None
    """Folder for the reports of the devices."""
    replace: frozenset[str] = frozenset()
    """Changes to what serves that are meant; see replacing.py."""


@dataclass(frozen=True)
class Delivery:
    """Outcome on one device."""

    device: str
    outcome: Outcome
    variant: str | None = None
    """Variant that serves there now; None where that is not known."""
    p50_before_ms: float | None = None
    """Median latency of what served before."""
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
    """Exit code that this device alone would end the command with."""

    @property
    def summary(self) -> str:
        """Last line of its progress."""
        words = {
            "switched": f"switched to {self.variant}",
            "unchanged": f"serves it already, with {self.variant}",
        }.get(self.outcome, self.outcome)
        return f"{words}: {self.reason}" if self.reason else words


def safe_name(name: str) -> str:
    """The name, if it can be a file's name everywhere; else its usable characters and a hash of all of it."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:LONGEST].strip(".-")
    if plain == name and name != Path(NAME).stem:  # in a folder, that file is read as the folder's only report
        return name
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}-{mark}" if plain else mark


def open_folder(path: Path | None, bundle: str) -> Path:
    """Makes the folder for a bundle's reports, `ships/<bundle>` by default.

    Raises:
        InputError: it cannot be made or written to.
    """
    folder = path or Path("ships") / safe_name(bundle)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"{folder} cannot hold the reports: {error.strerror}.", hint="Name a folder with --reports."
        ) from error
    return folder


def write_device_report(folder: Path, device: str, content: dict[str, Any]) -> Path:
    """Checks the report of a device and writes it as `<device>.json`.

    Raises:
        DeviceError: it is no report.
        InputError: the file cannot be written.
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
