"""Records that an installation leaves: the chosen variant, signer and time of each slot, and the last reports of trials."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from edgebert.bundle.device_folder import Root, SlotName
from edgebert.core.strict import Frozen
from edgebert.devices.agent.disk import remove, write_durably
from edgebert.devices.agent.protocol import Sha256, first_fault
from edgebert.errors import BundleError

if TYPE_CHECKING:
    from edgebert.report.report import Report

KEPT = 20
"""Number of reports that a device keeps."""
NAME = re.compile(r"(\d{6,})-[0-9a-f]{12}\.json")
SHIP_AGAIN = "Ship the bundle again."


class Record(Frozen):
    """Content of slots/a.json."""

    schema_version: Literal[1] = 1
    bundle: str
    """Name of the bundle."""
    manifest: Sha256
    """sha256 of its edgebert.json."""
    variant: str
    """Variant that was chosen on this device."""
    p50_ms: float | None = Field(ge=0)
    signed_by: str
    """Fingerprint of the key, identity of the certificate, or `unsigned`."""
    installed: str
    """Time of the installation by this device's clock, which may be wrong; nothing is decided by it."""


def read_record(root: Root, slot: SlotName) -> Record:
    """Reads a slot's record.

    Raises:
        BundleError: the record is missing or damaged.
    """
    file = root.record(slot)
    try:
        return Record.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"Slot {slot} has no record.", hint=SHIP_AGAIN) from error
    except OSError as error:
        raise BundleError(f"The record {file} cannot be read: {error.strerror}.", hint=SHIP_AGAIN) from error
    except ValidationError as error:
        raise BundleError(f"The record {file} is damaged: {first_fault(error)}.", hint=SHIP_AGAIN) from error


def keep_report(root: Root, report: Report, manifest: str) -> None:
    """Writes a report beside the earlier ones and removes the oldest beyond `KEPT`.

    Args:
        manifest: sha256 of the manifest of the bundle that was tried.
    """
    from edgebert.report.file import report_text  # here, or `hello` would wait for it

    earlier = numbered(root)
    number = max(earlier, default=0) + 1
    write_durably(root.reports / f"{number:06d}-{manifest[:12]}.json", report_text(report))
    for old in sorted(earlier)[: max(len(earlier) + 1 - KEPT, 0)]:
        remove(earlier[old])


def numbered(root: Root) -> dict[int, Path]:
    """The kept reports by their numbers."""
    matches = {file: NAME.fullmatch(file.name) for file in root.reports.iterdir()}
    return {int(match[1]): file for file, match in matches.items() if match}
