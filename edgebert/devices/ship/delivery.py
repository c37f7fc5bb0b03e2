"""Delivery: what became of a bundle on one device."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgebert.devices.agent.protocol import Trial, Tried

Outcome = Literal["switched", "unchanged", "refused", "failed", "interrupted", "rolled back", "not tried"]
SERVES: tuple[Outcome, ...] = ("switched", "unchanged")
"""Outcomes with which a device serves the bundle."""


@dataclass(frozen=True)
class Order:
    """How a bundle is shipped."""

    trial: Trial = field(default_factory=Trial)
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
    cargo_bytes: int = 0
    seconds: float = 0.0
    reason: str | None = None
    tried: tuple[Tried, ...] = ()
    report: Path | None = None
    hint: str | None = None
    """What to do about the reason."""
    exit_code: int = 0
    """What this device alone would end the command with."""
