"""`edgebert ship`, `rollback` and `devices status`: a bundle onto devices, back again, and what they serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgebert.cli.common import (
    FleetOption,
    JsonOption,
    OnlyOption,
    ParallelOption,
    QuietOption,
    TargetArgument,
    print_json,
    reader_may_leave,
)
from edgebert.cli.devices import app as devices_app
from edgebert.core import interrupts
from edgebert.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgebert.devices.ship.delivery import Delivery
    from edgebert.devices.ship.status import DeviceStatus, Question
    from edgebert.devices.transport.base import Device

LEFT = "`edgebert devices status` says what serves on each device."


def ship(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that compress wrote: the bundle, or its run.")],
    targets: TargetArgument = None,
    fleet: FleetOption = None,
    only: OnlyOption = None,
    canary: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The first N devices; the others only if all of these switch.")
    ] = None,
    parallel: ParallelOption = None,
    reports: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For the devices' measurements. Default: ships/<bundle>.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Processes that measure each variant there.")] = 5,
    queries: Annotated[int, typer.Option(min=1, max=100_000, help="That each of them is asked.")] = 64,
    attempts: Annotated[
        int, typer.Option(min=1, max=100, help="How often a device is called where its connection is lost.")
    ] = 3,
    quiet: QuietOption = False,
    json_output: JsonOption = False,
) -> None:
    """Brings a bundle onto devices: checked, tried and measured there, then switched over. Exits 1 when a gate fails."""
    from edgebert.core.interrupts import finish
    from edgebert.core.parallel_progress import open_parallel_progress
    from edgebert.devices.agent.protocol import VariantTrial
    from edgebert.devices.ship.delivery import Order, open_folder
    from edgebert.devices.ship.payload import load_payload
    from edgebert.devices.ship.rollout import Rollout, exit_code
    from edgebert.devices.ship.text import delivery_data, delivery_lines

    devices, at_once = _chosen(targets, fleet, only, parallel)
    if canary and canary >= len(devices):
        count = "there is 1 device" if len(devices) == 1 else f"there are {len(devices)} devices"
        raise InputError(
            f"--canary {canary}, but {count}.", hint="Canaries go before others: name more devices, or leave it out."
        )
    payload = load_payload(bundle)
    order = Order(
        trial=VariantTrial(rounds=rounds, queries=queries),
        attempts=attempts,
        parallel=at_once,
        canary=canary or 0,
        reports=open_folder(reports, payload.manifest.name),
    )
    with open_parallel_progress(quiet=quiet) as progress:
        rollout = Rollout(devices, payload, order, progress)
        interrupts.leave(LEFT)  # for a second Ctrl-C, behind which there is no table any more
        finished = finish(rollout.run())
    found = rollout.deliveries
    with reader_may_leave():
        print_json(delivery_data(found)) if json_output else typer.echo("\n".join(delivery_lines(found)))
    if not finished:
        _end_interrupted(found)
    raise typer.Exit(exit_code(found))


def rollback(
    targets: TargetArgument = None,
    fleet: FleetOption = None,
    only: OnlyOption = None,
    parallel: ParallelOption = None,
    quiet: QuietOption = False,
    json_output: JsonOption = False,
) -> None:
    """Lets devices serve again what they served before the last switch, after it was checked there."""
    from edgebert.devices.ship.status import ask_rollback

    _ask(*_chosen(targets, fleet, only, parallel), ask_rollback, quiet=quiet, json_output=json_output)


@devices_app.command()
def status(
    targets: TargetArgument = None,
    fleet: FleetOption = None,
    only: OnlyOption = None,
    parallel: ParallelOption = None,
    quiet: QuietOption = False,
    json_output: JsonOption = False,
) -> None:
    """Shows what devices serve and what they keep for a rollback. Exits 3 where one serves nothing, or a slot is damaged."""
    from edgebert.devices.ship.status import ask_status

    _ask(*_chosen(targets, fleet, only, parallel), ask_status, quiet=quiet, json_output=json_output)


def _ask(devices: Sequence[Device], parallel: int, question: Question, *, quiet: bool, json_output: bool) -> None:
    from edgebert.core.interrupts import finish
    from edgebert.core.parallel_progress import open_parallel_progress
    from edgebert.devices.ship.status import Inquiry, exit_code
    from edgebert.devices.ship.text import status_data, status_lines

    with open_parallel_progress(quiet=quiet) as progress:
        inquiry = Inquiry(devices, question, progress, parallel)
        interrupts.leave(LEFT)
        finished = finish(inquiry.run())
    found: list[DeviceStatus] = inquiry.statuses
    with reader_may_leave():
        print_json(status_data(found)) if json_output else typer.echo("\n".join(status_lines(found)))
    if not finished:
        raise KeyboardInterrupt
    raise typer.Exit(exit_code(found))


def _chosen(
    targets: list[str] | None, fleet: Path | None, only: list[str] | None, parallel: int | None
) -> tuple[tuple[Device, ...], int]:
    """The devices, and how many at a time."""
    from edgebert.devices.fleet import PARALLEL
    from edgebert.devices.targets import choose

    chosen = choose(targets or (), fleet=fleet, only=only or ())
    return chosen.devices, parallel or chosen.parallel or PARALLEL


def _end_interrupted(found: Sequence[Delivery]) -> None:
    from edgebert.devices.ship.delivery import SERVES

    serving = sum(item.outcome in SERVES for item in found)
    interrupts.leave(f"{serving} of {len(found)} devices serve it; run the same command again for the others.")
    raise KeyboardInterrupt
