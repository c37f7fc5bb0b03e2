"""`edgebert rollback`: devices go back to the bundle that they served before."""

from __future__ import annotations

from edgebert.cli.devices import inquire
from edgebert.cli.on_devices import OnDevices, for_devices


@for_devices
def rollback(devices: OnDevices) -> None:
    """Lets devices serve again what they served before the last switch, after it was checked there."""
    from edgebert.devices.ship.status import ask_rollback

    inquire(devices, ask_rollback)
