"""`edgebert devices`: setting devices up, and asking them who they are."""

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
from edgebert.core import interrupts
from edgebert.errors import InputError

if TYPE_CHECKING:
    from edgebert.devices.concurrently import Work
    from edgebert.devices.setup.setup import OwnKey
    from edgebert.devices.targets import Chosen

GOES_ON = "What was installed stays; the same command goes on with the rest."
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

    from edgebert.core.parallel_progress import ProgressLine
    from edgebert.devices.setup.setup import SetupOrder, needs_environment, set_up
    from edgebert.devices.setup.text import Reached
    from edgebert.devices.setup.wheels import Wheels, make_own_wheel, read_wheels
    from edgebert.devices.targets import choose
    from edgebert.devices.transport.base import Device
    from edgebert.version import __version__

    if offline and wheels is None:
        raise InputError("--offline needs the wheels.", hint="Bring them along with --wheels DIR.")
    if python is not None and (not python.strip() or not python.isprintable() or python.startswith("-")):
        raise InputError(f"--python {python!r} is no name of a program.", hint="For example: --python python3.12")
    chosen = choose(targets or (), fleet=fleet, only=only or ())
    brought = read_wheels(wheels, __version__) if wheels else Wheels(())
    with tempfile.TemporaryDirectory(prefix="edgebert-wheel-") as folder:
        if brought.own is None and any(needs_environment(device, python) for device in chosen.devices):
            brought = brought.with_own(make_own_wheel(Path(folder)))
        order = SetupOrder(key=_own_key(), wheels=brought, offline=offline, python=python, openvino=openvino)

        async def work(device: Device, line: ProgressLine) -> Reached:
            return await set_up(device, order, line)

        _all(chosen, work, parallel, quiet=quiet, json_output=json_output, left=GOES_ON)


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
    from edgebert.core.parallel_progress import ProgressLine
    from edgebert.devices.setup.setup import check as ask
    from edgebert.devices.setup.text import Reached
    from edgebert.devices.targets import choose
    from edgebert.devices.transport.base import Device

    chosen = choose(targets or (), fleet=fleet, only=only or ())
    key = own_public_key()

    async def work(device: Device, line: ProgressLine) -> Reached:
        return await ask(device, key.fingerprint if key else None, line)

    _all(chosen, work, parallel, quiet=quiet, json_output=json_output)


def _all(chosen: Chosen, work: Work, parallel: int | None, *, quiet: bool, json_output: bool, left: str | None = None) -> None:
    """Works on all devices and shows what was found.

    Args:
        left: what to say of an interrupted work that writes.
    """
    from edgebert.core.interrupts import finish
    from edgebert.core.parallel_progress import open_parallel_progress
    from edgebert.devices.concurrently import AtOnce
    from edgebert.devices.fleet import PARALLEL
    from edgebert.devices.setup.text import data, exit_code, lines

    if left:
        interrupts.leave(left)  # before the work: a second Ctrl-C ends it without a table
    with open_parallel_progress(quiet=quiet) as progress:
        work_of_all = AtOnce(chosen.devices, work, progress, parallel or chosen.parallel or PARALLEL)
        finished = finish(work_of_all.run())
    found = work_of_all.found
    with reader_may_leave():
        print_json(data(found)) if json_output else typer.echo("\n".join(lines(found)))
    if not finished:
        raise KeyboardInterrupt
    raise typer.Exit(exit_code(found))


def _own_key() -> OwnKey:
    """This user's key, and what devices call it: it says whose it is."""
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
