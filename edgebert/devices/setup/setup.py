"""Setup of one device: makes an environment with this version of edgebert there, and has it trust this user's key."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgebert.bundle.device_folder import MARKER, OURS
from edgebert.core.parallel_progress import ProgressLine
from edgebert.devices.agent.protocol import About, Hello, Pin
from edgebert.devices.setup.text import Reached, usable
from edgebert.devices.setup.wheels import MAKE_OWN, Wheel, Wheels, download_command
from edgebert.devices.transport.answers import Found, read_about, read_found
from edgebert.devices.transport.base import Channel, Device
from edgebert.devices.transport.conversation import AFTER_READING_S, SOON_S, last_line, printable, within
from edgebert.devices.transport.local import LocalDevice
from edgebert.errors import DeviceError
from edgebert.runtimes import RUNTIMES
from edgebert.version import __version__

PYTHONS = ("python3", "python3.13", "python3.12", "python3.11", "python3.14")
OLDEST = (3, 11)
PIP_PHASES = ("processing", "collecting", "downloading")
_VERSION = re.compile(r"^([0-9]{1,3}) ([0-9]{1,3})\s*\Z", re.MULTILINE)


@dataclass(frozen=True)
class OwnKey:
    """This user's public key, for devices to trust."""

    name: str
    pem: str
    fingerprint: str


@dataclass(frozen=True)
class SetupOrder:
    """How devices are set up."""

    key: OwnKey | None
    wheels: Wheels
    """Wheels to send: edgebert's own, where an environment is made, and packages that the device's index lacks."""
    offline: bool = False
    """Whether pip uses these wheels alone, and no package index."""
    python: str | None = None
    """Interpreter on the device that makes the environment."""
    extras: tuple[str, ...] = ()
    """Extras of edgebert to install: those of the runtimes that the base install lacks."""


def device_extras() -> list[str]:
    """Extras of edgebert that runtimes need on a device."""
    return list(dict.fromkeys(runtime.device_extra for runtime in RUNTIMES if runtime.device_extra))


async def check(device: Device, line: ProgressLine, *, key: str | None) -> Reached:
    """Asks a device to describe itself.

    Args:
        key: fingerprint of this user's key.
    """
    line.show("connecting")
    async with device.open() as channel:
        return usable(device, await _hello(channel, device), key)


async def set_up(device: Device, line: ProgressLine, *, order: SetupOrder) -> Reached:
    """Makes a device usable, and leaves alone what is installed already.

    Raises:
        DeviceError: it cannot be reached or used, with what to do.
    """
    line.show("connecting")
    installed = False
    if needs_environment(device, order.python):
        async with device.open() as channel:
            installed = await Setup(device, channel, order, line).run()
    async with device.open() as channel:  # a new connection, for the device has another Python now
        about = await _hello(channel, device)
        if order.key and order.key.fingerprint not in about.trusted and not isinstance(device, LocalDevice):
            line.show("trust")
            await channel.ask(Pin(name=order.key.name, pem=order.key.pem))
            about = await _hello(channel, device)
    return usable(device, about, order.key.fingerprint if order.key else None, installed=installed)


def needs_environment(device: Device, python: str | None) -> bool:
    """Whether an environment has to be made. A folder of this machine uses this interpreter, and a Python that is named in the
    fleet is its owner's.

    Args:
        python: interpreter that the user named to make an environment with.
    """
    return not device.python and not (isinstance(device, LocalDevice) and python is None)


async def _hello(channel: Channel, device: Device) -> About:
    return read_about(await channel.ask(Hello(root=device.root)), device)


class Setup:
    """One device, one connection."""

    def __init__(self, device: Device, channel: Channel, order: SetupOrder, line: ProgressLine) -> None:
        assert order.wheels.own is not None, "an environment holds edgebert"
        self._device, self._channel, self._order, self._line = device, channel, order, line
        self._own: Wheel = order.wheels.own

    async def run(self) -> bool:
        """Makes the environment where it is missing, broken or outdated. Returns whether it was made."""
        python = await self._find_python()
        found = await self._look(python)
        made_of = self._made_of(found)
        if self._is_current(found, made_of):
            return False
        await self._send_wheels(found)
        await self._install(python, found, made_of)
        return True

    async def _find_python(self) -> str:
        """The first Python on the device that is new enough."""
        old = []
        for python in (self._order.python,) if self._order.python else PYTHONS:
            async with within(SOON_S, self._device.name):
                done = await self._channel.run([python, "-c", "import sys; print(*sys.version_info[:2])"])
            version = _VERSION.search(done.out) if done.code == 0 else None
            if version and (int(version[1]), int(version[2])) >= OLDEST:
                return python
            if version:
                old.append(f"{version[1]}.{version[2]}")
        asked = self._order.python
        has = f"Python {' and '.join(old)}, which is too old" if old else f"no {asked}" if asked else "no Python"
        hint = "Install Python 3.11 or newer there, with its venv module; --python gives its name."
        raise DeviceError(f"{self._device.name} has {has}.", hint=hint)

    async def _look(self, python: str) -> Found:
        async with within(AFTER_READING_S, self._device.name):
            events = await self._run_there(python, {"do": "look", "root": self._device.root}, lambda event: None)
        return read_found(events[-1] if events else None, self._device)

    def _made_of(self, found: Found) -> dict[str, Any]:
        """What the environment is to be made of. An extra that an earlier setup installed stays."""
        before = found.made_of if isinstance(found.made_of, dict) else {}
        return {
            "edgebert": __version__,
            "wheel": self._own.sha256(),
            **{extra: extra in self._order.extras or bool(before.get(extra)) for extra in device_extras()},
            "python": list(found.python[:2]),
        }

    def _is_current(self, found: Found, wanted: dict[str, Any]) -> bool:
        before = found.made_of
        if not isinstance(before, dict):
            return False
        ignored = set() if self._order.python else {"python"}
        return all(before.get(key) == value for key, value in wanted.items() if key not in ignored)

    async def _send_wheels(self, found: Found) -> None:
        """Copies the missing wheels. A setup that was stopped continues behind the last wheel that arrived."""
        missing = [
            wheel
            for wheel in self._order.wheels.for_device(found.machine, found.python)
            if found.wheels.get(wheel.path.name) != wheel.sha256()
        ]
        total = sum(wheel.path.stat().st_size for wheel in missing)
        sent = 0
        for wheel in missing:
            self._line.show("wheels", f"{sent / 1e6:.1f} of {total / 1e6:.1f} MB", sent / total if total else None)
            await self._channel.put(wheel.path, f"{self._device.root}/wheels/{wheel.path.name}")
            sent += wheel.path.stat().st_size

    async def _install(self, python: str, found: Found, made_of: dict[str, Any]) -> None:
        wanted = [extra for extra in device_extras() if made_of[extra]]
        extras = f"[{','.join(wanted)}]" if wanted else ""
        request = {
            "do": "install",
            "root": self._device.root,
            "ours": [*OURS, MARKER],
            "wheel": self._own.path.name,
            "extras": extras,
            "offline": self._order.offline,
            "made_of": made_of,
        }
        events = await self._run_there(python, request, self._show)
        last = events[-1] if events else {}
        if "fault" in last:
            raise self._explain(str(last.get("about")), printable(str(last["fault"])), found, extras)
        if not last.get("done"):
            raise DeviceError(f"The setup of {self._device.name} ended in the middle.", hint="The same command goes on.")

    async def _run_there(
        self, python: str, request: dict[str, Any], on_event: Callable[[dict[str, Any]], None]
    ) -> list[dict[str, Any]]:
        """Runs on_device.py on the device; returns its events. Other lines are dropped: a login shell may print some."""
        events: list[dict[str, Any]] = []
        text = importlib.resources.files("edgebert.devices.setup").joinpath("on_device.py").read_text(encoding="utf-8")

        def on_line(line: str) -> None:
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                return
            if isinstance(event, dict):
                events.append(event)
                on_event(event)

        done = await self._channel.run([python, "-c", text, json.dumps(request)], on_line=on_line)
        if done.code:
            words = last_line(done)
            raise DeviceError(f"The setup of {self._device.name} failed: {words}.", hint="The same command starts it again.")
        return events

    def _show(self, event: dict[str, Any]) -> None:
        """Shows a phase. All of pip's are one, or a hundred packages would print a hundred lines."""
        if "phase" in event:
            phase = "packages" if event["phase"] in PIP_PHASES else printable(str(event["phase"]))
            self._line.show(phase, printable(str(event.get("what", ""))))

    def _explain(self, about: str, words: str, found: Found, extras: str) -> DeviceError:
        name, target = self._device.name, self._device.target
        bring = f"Send wheels from here: edgebert devices setup {target} --wheels wheels"
        download = download_command(found.machine, found.python, __version__, extras=extras)
        if about == "venv":
            hint = "On Debian and Ubuntu: apt-get install python3-venv"
            return DeviceError(f"{name} cannot make an environment: {words}", hint=hint)
        if about in ("pip", "network"):
            if self._order.offline:
                hint = f"In edgebert's checkout: {MAKE_OWN} && {download}"
            elif about == "network":
                hint = (
                    f"Its package index was not reached. In edgebert's checkout: {MAKE_OWN} && {download}\n  {bring} --offline"
                )
            else:
                hint = "This is the message of pip on the device; the same command starts again."
            return DeviceError(f"edgebert could not be installed on {name}: {words}", hint=hint)
        if about == "busy":
            return DeviceError(f"On {name} {words}.", hint="Wait until it has ended.")
        if about == "root":
            return DeviceError(f"On {name} {words}.", hint="Name an empty folder, or one that is not there: pi@host:folder")
        return DeviceError(f"The setup of {name} failed: {words}.")
