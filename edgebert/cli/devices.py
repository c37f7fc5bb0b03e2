"""`edgebert devices`: sets devices up, and asks them who they are and what they serve."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from edgebert.cli.on_devices import LEFT, OnDevices, for_devices
from edgebert.errors import InputError

if TYPE_CHECKING:
    from edgebert.devices.concurrently import Work
    from edgebert.devices.setup.setup import OwnKey
    from edgebert.devices.setup.text import Reached
    from edgebert.devices.ship.status import Question

GOES_ON = "What was installed stays; the same command goes on with the rest."
app = typer.Typer(help="Sets devices up and looks after them.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
@for_devices
def setup(
    devices: OnDevices,
    wheels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Wheels to bring along, edgebert's own among them or not.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use the wheels alone, and no package index.")] = False,
    python: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Python there, such as python3.12; for a local folder: make an environment."),
    ] = None,
    openvino: Annotated[bool, typer.Option("--openvino", help="Install the runtime OpenVINO as well.")] = False,
    runtimes: Annotated[
        list[str] | None, typer.Option("--runtime", metavar="NAME", help="Install this runtime as well. Repeatable.")
    ] = None,
) -> None:
    """Installs edgebert on devices and lets them trust your key. What is there is left alone. Exits 3 when one fails."""
    import tempfile

    from edgebert.devices.setup.setup import SetupOrder, needs_environment, set_up
    from edgebert.devices.setup.wheels import Wheels, make_own_wheel, read_wheels
    from edgebert.version import __version__

    if offline and wheels is None:
        raise InputError("--offline needs the wheels.", hint="Bring them along with --wheels DIR.")
    if python is not None and (not python.strip() or not python.isprintable() or python.startswith("-")):
        raise InputError(f"--python {python!r} is no name of a program.", hint="For example: --python python3.12")
    extras = _extras([*(runtimes or ()), *(["openvino"] if openvino else [])])
    brought = read_wheels(wheels, __version__) if wheels else Wheels(())
    with tempfile.TemporaryDirectory(prefix="edgebert-wheel-") as folder:
        if brought.own is None and any(needs_environment(device, python) for device in devices.chosen.devices):
            brought = brought.with_own(make_own_wheel(Path(folder)))
        order = SetupOrder(key=_own_key(), wheels=brought, offline=offline, python=python, extras=extras)
        _reach(devices, partial(set_up, order=order), left=GOES_ON)


@app.command()
@for_devices
def check(devices: OnDevices) -> None:
    """Reaches devices and shows who they are and what they lack; changes nothing. Exits 3 when one cannot be used."""
    from edgebert.bundle.trust.keys import own_public_key
    from edgebert.devices.setup.setup import check as ask

    key = own_public_key()
    _reach(devices, partial(ask, key=key.fingerprint if key else None))


@app.command()
@for_devices
def status(devices: OnDevices) -> None:
    """Shows what devices serve and what they keep for a rollback. Exits 3 where one serves nothing, or a slot is damaged."""
    from edgebert.devices.ship.status import ask_status

    inquire(devices, ask_status)


def _reach(devices: OnDevices, work: Work[Reached], *, left: str | None = None) -> NoReturn:
    """Sets devices up or asks who they are, and ends the command."""
    from edgebert.devices.concurrently import AtOnce, Turns
    from edgebert.devices.setup.text import data, interrupted, lines, unusable

    chosen, turns = devices.chosen, Turns(devices.chosen.parallel, one_a_machine=False)
    devices.run(
        lambda progress: AtOnce(chosen.devices, work, failed=unusable, absent=interrupted, progress=progress, turns=turns),
        data,
        lines,
        left=left,
    )


def inquire(devices: OnDevices, question: Question) -> NoReturn:
    """Asks devices what they serve, or has them roll back, and ends the command."""
    from edgebert.devices.ship.status import inquire as ask
    from edgebert.devices.ship.text import status_data, status_lines

    chosen = devices.chosen
    devices.run(lambda progress: ask(chosen.devices, question, progress, chosen.parallel), status_data, status_lines, left=LEFT)


def _extras(names: list[str]) -> tuple[str, ...]:
    """Extras of edgebert that these runtimes need on a device."""
    from edgebert.runtimes import RUNTIMES

    known = {runtime.name: runtime.device_extra for runtime in RUNTIMES}
    if strange := next((name for name in names if name not in known), None):
        raise InputError(f"--runtime {strange!r} is no runtime.", hint=f"Take one of {', '.join(known)}.")
    return tuple(extra for name in names if (extra := known[name]))


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
