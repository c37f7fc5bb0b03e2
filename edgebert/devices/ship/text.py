"""Results of `ship`, `rollback` and `devices status` as tables and as JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edgebert.core.text_table import aligned
from edgebert.devices.concurrently import NOTHING, hint_lines
from edgebert.devices.ship.delivery import Delivery
from edgebert.devices.ship.status import DeviceStatus


def delivery_lines(deliveries: Sequence[Delivery]) -> list[str]:
    """A row for each device, then why the variants of refused devices did not pass, and hints for failures."""
    rows = [["device", "outcome", "variant", "p50 ms", "sent MB", "of MB", "seconds", "reason"]]
    rows += [
        [
            item.device,
            item.outcome,
            item.variant or NOTHING,
            _change(item.p50_before_ms, item.p50_ms),
            f"{item.sent_bytes / 1e6:.1f}",
            f"{item.payload_bytes / 1e6:.1f}",
            f"{item.seconds:.1f}",
            item.reason or "",
        ]
        for item in deliveries
    ]
    lines = aligned(rows, right=(3, 4, 5, 6))
    for item in deliveries:
        if item.outcome == "refused":
            lines += [f"  {item.device}, {one.variant}: {one.reason}" for one in item.tried if not one.passed]
    return [*lines, *hint_lines(item.hint for item in deliveries)]


def delivery_data(deliveries: Sequence[Delivery]) -> list[dict[str, Any]]:
    """The deliveries for `--json`."""
    return [
        {
            **asdict(item),
            "tried": [one.model_dump(mode="json") for one in item.tried],
            "report": str(item.report) if item.report else None,
        }
        for item in deliveries
    ]


def status_lines(statuses: Sequence[DeviceStatus]) -> list[str]:
    """A row for each filled slot, and one for each device that has none."""
    rows = [["device", "slot", "bundle", "variant", "p50 ms", "signed by", "installed", "state"]]
    for item in statuses:
        if item.status is None or not item.status.slots:
            rows.append([item.device, *[NOTHING] * 6, item.reason or "serves nothing"])
            continue
        for slot in item.status.slots:
            serves = slot.slot == item.status.serving
            state = "serves" if serves else "kept"
            rows.append(
                [
                    item.device,
                    slot.slot,
                    slot.bundle,
                    slot.variant,
                    _ms(slot.p50_ms),
                    _short(slot.signed_by),
                    slot.installed,
                    f"{state}, damaged: {slot.fault}" if slot.fault else state,
                ]
            )
        if item.status.serving is None:
            rows.append([item.device, *[NOTHING] * 6, "serves nothing"])
    lines = aligned(rows, right=(4,))
    return [*lines, *hint_lines(item.hint for item in statuses)]


def status_data(statuses: Sequence[DeviceStatus]) -> list[dict[str, Any]]:
    """The statuses for `--json`."""
    return [
        {
            "device": item.device,
            "status": item.status and item.status.model_dump(mode="json"),
            "reason": item.reason,
            "hint": item.hint,
        }
        for item in statuses
    ]


def _short(signer: str) -> str:
    """The start of a key's fingerprint, as people compare it; `--json` has all of it."""
    return f"key {signer[:12]}" if re.fullmatch(r"[0-9a-f]{64}", signer) else signer


def _change(before: float | None, now: float | None) -> str:
    if now is None:
        return NOTHING
    return f"{_ms(before)} -> {_ms(now)}" if before is not None else _ms(now)


def _ms(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"
