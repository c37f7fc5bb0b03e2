"""`edgebert devices`: sets devices up, and asks them who they are and what they serve."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from edgebert.cli.common import (
    FleetOption,
    JsonOption,
    OnlyOption,
    ParallelOption,
    QuietOption,
    TargetArgument,
    run_on_devices,
)
from edgebert.errors import InputError

if TYPE_CHECKING:
    from edgebert.devices.concurrently import Work
    from edgebert.devices.setup.setup import OwnKey
    from edgebert.devices.setup.text import Reached
    from edgebert.devices.ship.status import Question
    from edgebert.devices.targets import Chosen

GOES_ON = "What was installed stays; the same command goes on with the rest."
LEFT = "`edgebert devices status` says what serves on each device."
app = typer.Typer(help="Sets devices up and looks after them.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def setup(
    targets: TargetArgument = None,
    fleet: FleetOption = None,
    only: OnlyOption = None,
    wheels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Wheels to bring along, edgebert's own among them or not.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use the wheels alone, and no package index.")] = False,
    python: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Python there, such as python3.12; for a local folder: make an environment."),
    ] = None,
    openvino: Annotated[bool, typer.Option("--openvino", help="Install the runtime OpenVINO as well.")] = False,
    parallel: ParallelOption = None,
    quiet: QuietOption = False,
    json_output: JsonOption = False,
) -> None:
    """Installs edgebert on devices and lets them trust your key. What is there is left alone. Exits 3 when one fails."""
    import tempfile

    from edgebert.devices.setup.setup import SetupOrder, needs_environment, set_up
    from edgebert.devices.setup.wheels import Wheels, make_own_wheel, read_wheels
    from edgebert.devices.targets import choose
    from edgebert.version import __version__

    if offline and wheels is None:
        raise InputError("--offline needs the wheels.", hint="Bring them along with --wheels DIR.")
    if python is not None and (not python.strip() or not python.isprintable() or python.startswith("-")):
        raise InputError(f"--python {python!r} is no name of a program.", hint="For example: --python python3.12")
    chosen = choose(targets or (), fleet=fleet, only=only or (), parallel=parallel)
    brought = read_wheels(wheels, __version__) if wheels else Wheels(())
    with tempfile.TemporaryDirectory(prefix="edgebert-wheel-") as folder:
        if brought.own is None and any(needs_environment(device, python) for device in chosen.devices):
            brought = brought.with_own(make_own_wheel(Path(folder)))
        order = SetupOrder(key=_own_key(), wheels=brought, offline=offline, python=python, openvino=openvino)
        _reach(chosen, partial(set_up, order=order), quiet, json_output, left=GOES_ON)


@app.command()
def check(
    targets: TargetArgument = None,
    fleet: FleetOption = None,
    only: OnlyOption = None,
    parallel: ParallelOption = None,
    quiet: QuietOption = False,
    json_output: JsonOption = False,
) -> None:
    """Reaches devices and shows who they are and what they lack; changes nothing. Exits 3 when one cannot be used."""
    from edgebert.bundle.trust.keys import own_public_key
    from edgebert.devices.setup.setup import check as ask
    from edgebert.devices.targets import choose

    chosen = choose(targets or (), fleet=fleet, only=only or (), parallel=parallel)
    key = own_public_key()
    _reach(chosen, partial(ask, key=key.fingerprint if key else None), quiet, json_output)


@app.command()
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
    from edgebert.devices.targets import choose

    inquire(choose(targets or (), fleet=fleet, only=only or (), parallel=parallel), ask_status, quiet, json_output)


def _reach(chosen: Chosen, work: Work[Reached], quiet: bool, json_output: bool, *, left: str | None = None) -> NoReturn:
    """Sets devices up or asks who they are, and ends the command."""
    from edgebert.devices.concurrently import AtOnce, Turns, lowest_exit_code
    from edgebert.devices.setup.text import data, interrupted, lines, unusable

    turns = Turns(chosen.parallel, one_a_machine=False)
    run_on_devices(
        lambda progress: AtOnce(chosen.devices, work, failed=unusable, absent=interrupted, progress=progress, turns=turns),
        data,
        lines,
        lowest_exit_code,
        quiet=quiet,
        json_output=json_output,
        left=left,
    )


def inquire(chosen: Chosen, question: Question, quiet: bool, json_output: bool) -> NoReturn:
    """Asks devices what they serve, or has them roll back, and ends the command."""
    from edgebert.devices.concurrently import lowest_exit_code
    from edgebert.devices.ship.status import inquire as ask
    from edgebert.devices.ship.text import status_data, status_lines

    run_on_devices(
        lambda progress: ask(chosen.devices, question, progress, chosen.parallel),
        status_data,
        status_lines,
        lowest_exit_code,
        quiet=quiet,
        json_output=json_output,
        left=LEFT,
    )


def _own_key() -> OwnKey:
    """This user's key, under a name by which devices can tell whose it is."""
    import getpass
    import platform
    import re

    from edgebert.bundle.trust.keys import ensure_own_key
    from edgebert.devices.setup.setup import OwnKey

    key = ensure_own_key()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without an entry, as in some containers
        user = "user"
    whose = re.sub(r"[^A-Za-z0-9]+", "-", f"{user}-{platform.node()}").strip("-")[:48] or "key"
    return OwnKey(f"{whose}-{key.fingerprint[:8]}", key.pem, key.fingerprint)
