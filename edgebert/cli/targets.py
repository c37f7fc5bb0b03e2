"""Options of the verbs that work on devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TargetArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET", help="pi@kitchen, pi@kitchen:folder, ssh://pi@kitchen:2222, ./folder, or a name of the fleet."
    ),
]
FleetOption = Annotated[Path | None, typer.Option("--fleet", metavar="FILE", help="Devices by name: fleet.yaml.")]
OnlyOption = Annotated[
    list[str] | None, typer.Option("--only", metavar="LABEL=VALUE", help="Devices of the fleet with that label. Repeatable.")
]
ParallelOption = Annotated[
    int | None, typer.Option(min=1, max=64, help="Devices at a time. Default: what the fleet says, else 4.")
]
