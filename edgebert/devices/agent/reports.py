"""Reports that stay on the device: the last ones, numbered in the order of their trials, for clocks there may be wrong."""

from __future__ import annotations

import re
from pathlib import Path

from edgebert.bundle.device_folder import Root
from edgebert.devices.agent.durable import write_durably
from edgebert.devices.agent.remove import remove
from edgebert.report.file import report_text
from edgebert.report.report import Report

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
