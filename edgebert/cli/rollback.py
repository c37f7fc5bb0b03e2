"""`edgebert rollback`: devices go back to the bundle that they served before."""

from __future__ import annotations

from edgebert.cli.common import FleetOption, JsonOption, OnlyOption, ParallelOption, QuietOption, TargetArgument
from edgebert.cli.devices import inquire


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
    from edgebert.devices.targets import choose

    inquire(choose(targets or (), fleet=fleet, only=only or (), parallel=parallel), ask_rollback, quiet, json_output)
