"""`edgebert ship`: brings a bundle onto devices, the canaries first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgebert.cli.on_devices import LEFT, OnDevices, for_devices
from edgebert.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgebert.devices.ship.delivery import Delivery


@for_devices
def ship(
    devices: OnDevices,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that compress wrote: the bundle, or its run.")],
    canary: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The first N devices; the others only if all of these switch.")
    ] = None,
    reports: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For the devices' measurements. Default: ships/<bundle>.")
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option(metavar="CHANGE", help="What may change for those who ask: task, inputs, labels, options, older."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Processes that measure each variant there.")] = 5,
    queries: Annotated[int, typer.Option(min=1, max=100_000, help="Queries that each of them is asked.")] = 64,
    attempts: Annotated[
        int, typer.Option(min=1, max=100, help="Connections to a device, where each is lost in the middle.")
    ] = 3,
) -> None:
    """Brings a bundle onto devices: checked, tried and measured there, then switched over. Exits 1 when a gate fails."""
    from edgebert.devices.agent.protocol import VariantTrial
    from edgebert.devices.ship.delivery import Order, open_folder
    from edgebert.devices.ship.payload import load_payload
    from edgebert.devices.ship.replacing import read_changes
    from edgebert.devices.ship.rollout import Rollout, exit_code
    from edgebert.devices.ship.text import delivery_data, delivery_lines

    chosen, changes = devices.chosen, read_changes(replace or ())
    if canary and canary >= len(chosen.devices):
        count = "there is 1 device" if len(chosen.devices) == 1 else f"there are {len(chosen.devices)} devices"
        raise InputError(
            f"--canary {canary}, but {count}.", hint="Canaries go before others: name more devices, or leave it out."
        )
    payload = load_payload(bundle)
    order = Order(
        trial=VariantTrial(rounds=rounds, queries=queries),
        attempts=attempts,
        parallel=chosen.parallel,
        canary=canary or 0,
        reports=open_folder(reports, payload.manifest.name),
        replace=changes,
    )
    devices.run(
        lambda progress: Rollout(chosen.devices, payload, order, progress),
        delivery_data,
        delivery_lines,
        exit_code=exit_code,
        left=LEFT,
        left_after=_left,
    )


def _left(deliveries: Sequence[Delivery]) -> str:
    from edgebert.devices.ship.delivery import SERVES

    serving = sum(item.outcome in SERVES for item in deliveries)
    return f"{serving} of {len(deliveries)} devices serve it; run the same command again for the others."
