"""The contract of every transport: a folder on this machine, a host by SSH, and the fake that ships with the package."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from processes import alive, wait_for
from ssh_server import Server, make_ssh_home, started, why_not

from edgebert.devices.agent.protocol import PROTOCOL, About, Hello, Piece, Receive
from edgebert.devices.transport import conversation
from edgebert.devices.transport.address import SshAddress
from edgebert.devices.transport.base import Channel, Device
from edgebert.devices.transport.fake import Faulty
from edgebert.devices.transport.local import LocalDevice
from edgebert.devices.transport.ssh import SshDevice
from edgebert.errors import DeviceError, DeviceLost

Value = TypeVar("Value")
KINDS = ("local", pytest.param("ssh", marks=pytest.mark.slow), "fake")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server | None]:
    """One server for all tests; None if none can be started."""
    if why_not():
        yield None
        return
    with started(tmp_path_factory.mktemp("kitchen")) as server:
        yield server


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Device]:
    """Makes a device of each kind; `make(program)` names the program that stands in for Python."""
    root = tmp_path / "root"

    def of_kind(python: str | None = None) -> Device:
        if request.param == "ssh":
            server = request.getfixturevalue("server")
            if server is None:
                pytest.skip(str(why_not()))
            monkeypatch.setenv("HOME", str(make_ssh_home(tmp_path / "client", {"kitchen": server})))
            monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
            return SshDevice("kitchen", SshAddress("kitchen", root=str(root)), python=python)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        (tmp_path / "home").mkdir(exist_ok=True)
        local = LocalDevice("kitchen", root, python=python)
        return Faulty(local) if request.param == "fake" else local

    return of_kind


@pytest.fixture
def device(make: Callable[..., Device]) -> Device:
    """A device with the real agent."""
    return make()


def program(folder: Path, text: str) -> str:
    """A program to stand in for Python: it runs `-c` as Python does; as an agent it runs this text."""
    path = folder / "agent"
    script = f"import os, sys\nif sys.argv[1] == '-c':\n    exec(compile(sys.argv[2], 'c', 'exec'))\n    sys.exit()\n{text}"
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)
    return str(path)


def over(device: Device, work: Callable[[Channel], Any]) -> Any:
    """Opens the device, works, closes it."""

    async def run() -> Any:
        async with device.open() as channel:
            return await work(channel)

    return asyncio.run(run())


async def parts(data: bytes, size: int = 1 << 16) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def test_hello_is_answered_and_changes_nothing(device: Device) -> None:
    about = About.model_validate(over(device, lambda channel: channel.ask(Hello(root=device.root))))
    assert about.protocol == PROTOCOL
    assert about.serving is None
    assert not Path(device.root).exists()  # asking changes nothing


def test_contents_arrive_unchanged_and_are_reported(device: Device) -> None:
    data = os.urandom(3_000_001)
    digest = hashlib.sha256(data).hexdigest()
    events: list[Any] = []

    request = Receive(root=device.root, pieces=(Piece(sha256=digest, size=len(data)),))
    assert over(device, lambda channel: channel.ask(request, body=parts(data), on_event=events.append)) == {}
    assert (Path(device.root) / "incoming" / digest).read_bytes() == data
    assert digest in [event.sha256 for event in events if event.event == "received"]


def test_an_error_of_the_agent_has_the_class_that_it_names(device: Device) -> None:
    Path(device.root).mkdir()
    (Path(device.root) / "holiday.jpg").touch()
    with pytest.raises(DeviceError, match=r"holds something else \(holiday.jpg\)") as error:
        over(device, lambda channel: channel.ask(Hello(root=device.root)))
    assert error.value.hint


def test_an_early_refusal_is_read_while_the_body_is_under_way(device: Device) -> None:
    """The agent stops reading; its answer must not be lost behind the closed pipe."""
    Path(device.root).mkdir()
    (Path(device.root) / "holiday.jpg").touch()
    piece = Piece(sha256="0" * 64, size=200_000_000)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < piece.size:
            sent += 1 << 16
            yield b"x" * (1 << 16)

    with pytest.raises(DeviceError, match="holds something else"):
        over(device, lambda channel: channel.ask(Receive(root=device.root, pieces=(piece,)), body=endless()))
    assert sent < piece.size


def test_an_error_of_the_body_is_raised_unchanged(device: Device) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise ZeroDivisionError("of ours")

    request = Receive(root=device.root, pieces=(Piece(sha256="0" * 64, size=2000),))
    with pytest.raises(ZeroDivisionError, match="of ours"):
        over(device, lambda channel: channel.ask(request, body=broken()))


def test_an_error_of_the_listener_is_raised_unchanged(make: Callable[..., Device], tmp_path: Path) -> None:
    says = """print('{"event": "note", "line": "hello"}', flush=True); sys.stdin.read()"""

    def heard(event: object) -> None:
        raise KeyError("of ours")

    device = make(program(tmp_path, says))
    with pytest.raises(KeyError, match="of ours"):
        over(device, lambda channel: channel.ask(Hello(), on_event=heard))


def test_a_body_waits_for_the_agent_and_is_never_whole_in_memory(make: Callable[..., Device], tmp_path: Path) -> None:
    """No more than a few buffers are sent to an agent that does not read."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 16
            yield b"x" * (1 << 16)

    async def work(channel: Channel) -> None:
        asking = asyncio.create_task(channel.ask(Hello(), body=endless()))
        before = -1
        while not 0 < sent == before:  # until nothing goes out any more
            before = sent
            await asyncio.sleep(0.3)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    over(make(program(tmp_path, "import time; time.sleep(60)")), work)
    assert 0 < sent < 16 << 20


def test_cancelling_ends_the_agent(make: Callable[..., Device], tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    text = f"""
import time
with open({str(mark)!r}, "w") as file:
    file.write(str(os.getpid()))
while True:
    print('{{"event": "note", "line": "works"}}', flush=True)
    time.sleep(0.05)
"""
    device = make(program(tmp_path, text))  # over SSH as root no signal arrives: there it ends for want of a reader

    async def work(channel: Channel) -> int:
        asking = asyncio.create_task(channel.ask(Hello()))
        while not mark.exists() or not mark.read_text():
            await asyncio.sleep(0.02)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        return int(mark.read_text())

    pid = over(device, work)
    wait_for(lambda: not alive(pid))


AGENTS = {
    "that crashes": (
        "sys.stderr.write('a\\nb\\nZeroDivisionError: division by zero\\n'); sys.exit(1)",
        DeviceLost,
        r"ended without an answer \(exit code 1\). Its last words: a \| b \| ZeroDivisionError",
    ),
    "that is killed": ("os.kill(os.getpid(), 9)", DeviceLost, "ended without an answer"),
    "that says nothing": ("", DeviceLost, "ended without an answer"),
    "that floods": (
        'import itertools\nfor _ in itertools.count(): print(\'{"event": "note", "line": "\' + \'x\' * 1000000 + \'"}\')',
        DeviceError,
        "more than any answer",
    ),
    "whose line never ends": ("\nwhile True: sys.stdout.write('x' * 1000000)", DeviceError, "more than any answer"),
    "of another protocol": (
        """print('{"event": "result", "value": {"protocol": 99, "edgebert_version": "7.0"}}')""",
        DeviceError,
        "has edgebert 7.0, which speaks another protocol",
    ),
    "with an event that is unknown": ("""print('{"event": "dance"}')""", DeviceError, "not edgebert's protocol"),
    "with an error that is unknown": (
        """print('{"event": "error", "kind": "MoodError", "message": "not today", "hint": "later"}')""",
        DeviceError,
        "not today",
    ),
    "with escapes in its error": (
        """print('{"event": "error", "kind": "DeviceError", "message": "\\\\u001b[2Jgone"}')""",
        DeviceError,
        r"^ \[2Jgone$",
    ),
    "without edgebert": (
        "sys.exit(\"Error while finding module specification for 'edgebert.devices.agent.agent' "
        "(ModuleNotFoundError: No module named 'edgebert')\")",
        DeviceError,
        "has Python, but no edgebert",
    ),
    "of an edgebert without slots": (
        "sys.exit(\"No module named 'edgebert.devices.agent'\")",
        DeviceError,
        "too old to be shipped to",
    ),
    "without a package": (
        "sys.exit(\"ModuleNotFoundError: No module named 'pydantic'\")",
        DeviceError,
        "lacks the package pydantic",
    ),
    "of an old Python": ("sys.stderr.write('Unknown option: -P\\n'); sys.exit(2)", DeviceError, "older than 3.11"),
}


@pytest.mark.parametrize("case", AGENTS)
def test_a_broken_agent_is_refused_with_a_reason(make: Callable[..., Device], tmp_path: Path, case: str) -> None:
    text, kind, message = AGENTS[case]
    with pytest.raises(DeviceError, match=message) as error:
        over(make(program(tmp_path, text)), lambda channel: channel.ask(Hello()))
    assert type(error.value) is kind
    assert "Traceback" not in str(error.value)


def test_lines_of_a_shell_before_the_agents_are_dropped(make: Callable[..., Device], tmp_path: Path) -> None:
    says = """print('Welcome to kitchen!\\n\\n* 3 updates\\n{"event": "result", "value": {"protocol": 1}}')"""
    device = make(program(tmp_path, says))
    assert over(device, lambda channel: channel.ask(Hello())) == {"protocol": 1}


def test_a_flood_of_notes_is_cut(make: Callable[..., Device], tmp_path: Path) -> None:
    text = """
import json
for count in range(1000):
    print(json.dumps({"event": "note", "line": "\\x1b[2J" + "x" * 1000}))
print(json.dumps({"event": "error", "kind": "DeviceError", "message": "m\\n" * 1000, "hint": "h\\n" * 1000}))
"""
    heard: list[Any] = []
    with pytest.raises(DeviceError) as error:
        over(make(program(tmp_path, text)), lambda channel: channel.ask(Hello(), on_event=heard.append))
    assert error.value.message == "m\nm\nm\nm\nm" and error.value.hint == "h\nh\nh\nh\nh"
    assert 0 < len(heard) <= 100
    assert all(note.line.isprintable() and len(note.line) <= 300 for note in heard)


def test_a_device_that_never_answers_is_given_up(
    make: Callable[..., Device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(conversation.ANSWERS_WITHIN_S, "hello", 0.2)
    with pytest.raises(DeviceError, match=r"kitchen has not answered within 0.2 s") as error:
        over(make(program(tmp_path, "import time; time.sleep(600)")), lambda channel: channel.ask(Hello()))
    assert error.value.hint


def test_a_device_without_python_is_named(make: Callable[..., Device], tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"has no Python: there is no .*nothing") as error:
        over(make(str(tmp_path / "nothing")), lambda channel: channel.ask(Hello()))
    assert "edgebert devices setup kitchen" in str(error.value.hint)


def test_arguments_of_a_command_arrive_as_they_are(device: Device) -> None:
    strange = ("a b", "$HOME", "~/x", "'", '"', "\\n", "*", ";exit 3", "`id`", "", "ä\u2028", "-c")
    script = "import json, sys; print(json.dumps(sys.argv[1:]))"
    done = over(device, lambda channel: channel.run(["python3", "-c", script, *strange]))
    assert tuple(json.loads(done.out)) == strange
    assert done.code == 0


def test_lines_of_a_command_are_passed_on_while_it_runs(device: Device) -> None:
    heard: list[str] = []
    done = over(device, lambda channel: channel.run(["printf", "one\\ntwo\\nthree"], on_line=heard.append))
    assert heard == ["one", "two", "three"]
    assert done.out == "one\ntwo\nthree"


def test_a_program_that_is_not_there_gives_127(device: Device) -> None:
    assert over(device, lambda channel: channel.run(["no-such-program"])).code == 127
    assert over(device, lambda channel: channel.run(["~/no-such-program"])).code == 127


def test_a_file_is_copied_as_a_whole(device: Device, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(1_500_000))
    target = tmp_path / "far" / "there.bin"
    over(device, lambda channel: channel.put(source, str(target)))
    assert target.read_bytes() == source.read_bytes()
    assert [file.name for file in target.parent.iterdir()] == ["there.bin"]


def test_a_file_that_cannot_be_copied_is_an_error(device: Device, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(b"x")
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match=r"source.bin could not be copied to kitchen: NotADirectoryError|FileExistsError"):
        over(device, lambda channel: channel.put(source, str(tmp_path / "file" / "there.bin")))


def test_several_requests_go_over_one_channel_at_once(device: Device) -> None:
    async def work(channel: Channel) -> list[Any]:
        return await asyncio.gather(*(channel.ask(Hello(root=device.root)) for _ in range(3)))

    assert len({answer["protocol"] for answer in over(device, work)}) == 1
