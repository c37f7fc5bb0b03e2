"""Record: what is known of one slot beside its bundle: which variant was chosen there, who vouches for it, since when."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from edgebert.bundle.device_folder import Root, SlotName
from edgebert.core.strict import Frozen
from edgebert.devices.agent.disk import remove, write_durably
from edgebert.devices.agent.protocol import Sha256
from edgebert.errors import BundleError
from edgebert.report.file import report_text
from edgebert.report.report import Report


class Record(Frozen):
    """The whole of slots/a.json."""

    schema_version: Literal[1] = 1
    bundle: str
    """Name of the bundle."""
    manifest: Sha256
    """Of its edgebert.json."""
    variant: str
    """The one that was chosen on this device."""
    p50_ms: float | None = Field(ge=0)
    signed_by: str
    """Fingerprint of the key, identity of the certificate, or `unsigned`."""
    installed: str
    """When, by this device's clock, which may be wrong; nothing is decided by it."""


def read_record(root: Root, slot: SlotName) -> Record:
    """Reads a slot's record.

    Raises:
        BundleError: there is none, or it is not one.
    """
    file = root.record(slot)
    try:
        return Record.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"Slot {slot} has no record.", hint="Ship the bundle again.") from error
    except OSError as error:
        raise BundleError(f"The record {file} cannot be read: {error.strerror}.", hint="Ship the bundle again.") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(
            f"The record {file} is damaged: {f'{where}: ' if where else ''}{first['msg']}.", hint="Ship the bundle again."
        ) from error


KEPT = 20


NAME = re.compile(r"(\d{6,})-[0-9a-f]{12}\.json")


def keep_report(root: Root, report: Report, manifest: str) -> None:
    """Writes a report beside the earlier ones, of which the oldest go.

    Args:
        manifest: sha256 of the manifest of the bundle that was tried.
    """
    earlier = numbered(root)
    number = max(earlier, default=0) + 1
    write_durably(root.reports / f"{number:06d}-{manifest[:12]}.json", report_text(report))
    for old in sorted(earlier)[: max(len(earlier) + 1 - KEPT, 0)]:
        remove(earlier[old])


def numbered(root: Root) -> dict[int, Path]:
    """The reports by their numbers."""
    found = {file: NAME.fullmatch(file.name) for file in root.reports.iterdir()}
    return {int(match[1]): file for file, match in found.items() if match}
