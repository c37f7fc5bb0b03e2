"""SSH against real servers: which hosts and keys are accepted, and the message of each failure."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Result
from ssh_server import Server, free_port, make_ssh_home, needs_sshd, started

from edgebert.devices.agent.protocol import Hello, Piece, Receive
from edgebert.devices.transport.address import SshAddress
from edgebert.devices.transport.base import Channel
from edgebert.devices.transport.ssh import SshDevice, command_line
from edgebert.errors import DeviceError, DeviceLost

pytestmark = [needs_sshd, pytest.mark.slow]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that no test changes."""
    with started(tmp_path_factory.mktemp("kitchen")) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that may be killed."""
    with started(tmp_path / "kitchen") as server:
        yield server


@pytest.fixture
def home(kept: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client's home whose ~/.ssh/config calls the kept server `kitchen`."""
    monkeypatch.setenv("HOME", str(make_ssh_home(tmp_path / "client", {"kitchen": kept})))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path / "client"


def use(server: Server, home: Path, *lines: str) -> None:
    """Lets `kitchen` be that server, with more lines of configuration."""
    entry = server.config_entry("kitchen") + "".join(f"  {line}\n" for line in lines)
    (home / ".ssh" / "config").write_text(entry)


def write_config(home: Path, text: str) -> None:
    (home / ".ssh" / "config").write_text(text)


def know(home: Path, server: Server, known: str) -> None:
    """Lets `kitchen` be that server, with ~/.ssh/known_hosts of that content alone."""
    (home / ".ssh" / "known_hosts").write_text(known)
    write_config(home, server.config_entry("kitchen").replace(str(server.known_hosts), "~/.ssh/known_hosts"))


def make_key(file: Path, kind: str = "ed25519") -> Path:
    """A new key; returns the file of its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(file)], check=True)
    return file.with_name(f"{file.name}.pub")


def lock_key(server: Server, file: Path) -> Path:
    """A copy of the client's key with a passphrase."""
    shutil.copy(server.identity, file)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret words", "-f", str(file)], check=True)
    return file


def hello(device: SshDevice) -> Any:
    async def run() -> Any:
        async with device.open() as channel:
            return await channel.ask(Hello(root="/nowhere/at/all"))

    return asyncio.run(run())


def reach(device: SshDevice) -> str:
    """Output of `echo` there."""

    async def run() -> str:
        async with device.open() as channel:
            return (await channel.run(["echo", "here"])).out

    return asyncio.run(run())


def refusal(device: SshDevice) -> DeviceError:
    with pytest.raises(DeviceError) as error:
        reach(device)
    assert error.value.hint
    return error.value


KITCHEN = SshDevice("kitchen", SshAddress("kitchen"))


def test_an_alias_gives_host_port_user_and_identity(home: Path) -> None:
    assert hello(KITCHEN)["machine"] == os.uname().machine
    assert KITCHEN.machine == ""  # loopback: this machine


@pytest.mark.parametrize("of_the_fleet", [False, True])
def test_an_address_and_a_key_need_no_configuration(home: Path, kept: Server, of_the_fleet: bool) -> None:
    (home / ".ssh" / "config").unlink()
    if not of_the_fleet:
        shutil.copy(kept.identity, home / ".ssh" / "id_ed25519")
    address = SshAddress(kept.address, kept.user, kept.port)
    assert reach(SshDevice("x", address, identity=kept.identity if of_the_fleet else None)) == "here\n"


def test_the_agent_holds_keys_too(home: Path, kept: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".ssh" / "config").unlink()
    address = SshAddress(kept.address, kept.user, kept.port)
    assert "does not let" in refusal(SshDevice("x", address)).message
    socket_path = home / "agent"
    with agent_with(kept.identity, socket_path):
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket_path))
        assert reach(SshDevice("x", address)) == "here\n"


@contextlib.contextmanager
def agent_with(identity: Path, path: Path) -> Iterator[None]:
    """An ssh-agent that holds a key and listens at a path."""
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            time.sleep(0.01)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(path)}
        subprocess.run(["ssh-add", "-q", str(identity)], check=True, env=environment)
        yield
    finally:
        agent.terminate()
        agent.wait()


def test_configuration_that_would_start_something_else_does_not_count(home: Path, kept: Server, tmp_path: Path) -> None:
    use(kept, home, f"RemoteCommand touch {tmp_path}/never", "RequestTTY force", "ForwardAgent yes", "SetEnv HOME=/nowhere")
    assert reach(KITCHEN) == "here\n"
    assert not (tmp_path / "never").exists()


def test_an_identity_that_is_not_there_is_reported(home: Path, kept: Server) -> None:
    write_config(home, kept.config_entry("kitchen").replace(str(kept.identity), "~/.ssh/gone"))
    assert "gone" in refusal(KITCHEN).message


def test_an_identity_with_a_passphrase_is_reported(home: Path, kept: Server, tmp_path: Path) -> None:
    error = refusal(SshDevice("kitchen", SshAddress("kitchen"), identity=lock_key(kept, tmp_path / "locked")))
    assert "passphrase" in error.message and f"ssh-add {tmp_path}/locked" in str(error.hint)


@pytest.mark.parametrize("public", [True, False])
def test_an_identity_with_a_passphrase_is_taken_from_the_agent(
    home: Path, kept: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, public: bool
) -> None:
    if public:
        shutil.copy(f"{kept.identity}.pub", tmp_path / "locked.pub")
    (home / ".ssh" / "config").unlink()
    device = SshDevice("x", SshAddress(kept.address, kept.user, kept.port), identity=lock_key(kept, tmp_path / "locked"))
    with agent_with(kept.identity, home / "agent"):
        monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "agent"))
        assert reach(device) == "here\n"


def test_configuration_that_cannot_be_read_is_reported(home: Path) -> None:
    write_config(home, 'Host kitchen\n  Port "twenty\n')
    with pytest.raises(DeviceError, match=r"~/.ssh/config cannot be used: .*line 2"):
        reach(KITCHEN)


def test_an_unknown_host_key_is_refused_with_its_fingerprint(home: Path, kept: Server) -> None:
    know(home, kept, "")
    before = kept.log.count("Accepted publickey")
    error = refusal(KITCHEN)
    shown = subprocess.run(["ssh-keygen", "-lf", str(kept.folder / "host_key.pub")], capture_output=True, text=True, check=True)
    assert "is not known here" in error.message and shown.stdout.split()[1] in error.message
    assert "Log in once with `ssh kitchen`" in str(error.hint)
    assert kept.log.count("Accepted publickey") == before
    assert (home / ".ssh" / "known_hosts").read_text() == ""  # nothing is learned by itself


def other_key(folder: Path) -> str:
    """A host key that no server here has, as known_hosts writes it."""
    return " ".join(make_key(folder / "other").read_text().split()[:2])


def by_name(home: Path, server: Server) -> SshDevice:
    """The server by the name localhost, with ~/.ssh/known_hosts alone."""
    write_config(home, f"Host localhost\n  IdentityFile {server.identity}\n")
    return SshDevice("x", SshAddress("localhost", server.user, server.port))


def test_a_key_that_is_known_by_the_address_says_nothing_about_a_name(home: Path, kept: Server, tmp_path: Path) -> None:
    """Whoever is reached under another's address must not pass for the name that the user wrote."""
    known = home / ".ssh" / "known_hosts"
    device = by_name(home, kept)
    key = kept.known_hosts_line().split(" ", 1)[1]
    known.write_text(kept.known_hosts_line())
    assert "is not known here" in refusal(device).message
    known.write_text(f"{kept.known_hosts_line()}[localhost]:{kept.port} {other_key(tmp_path)}\n")
    assert "HAS CHANGED" in refusal(device).message
    known.write_text(f"[localhost]:{kept.port} {key}")
    assert reach(device) == "here\n"


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[localhost]:{port}", "[127.0.0.1]:{port}"])
def test_a_key_is_revoked_by_name_or_address_in_any_file(home: Path, kept: Server, name: str) -> None:
    device = by_name(home, kept)
    key = kept.known_hosts_line().split(" ", 1)[1]
    (home / ".ssh" / "known_hosts").write_text(f"[localhost]:{kept.port} {key}")
    (home / ".ssh" / "known_hosts2").write_text(f"@revoked {name.format(port=kept.port)} {key}")
    assert "is revoked" in refusal(device).message


@pytest.mark.parametrize(
    "line",
    ["StrictHostKeyChecking no", "StrictHostKeyChecking=off", "UserKnownHostsFile /dev/null", "UserKnownHostsFile none"],
)
def test_no_configuration_switches_the_check_of_host_keys_off(home: Path, kept: Server, line: str) -> None:
    entry = kept.config_entry("kitchen").replace(f"  UserKnownHostsFile {kept.known_hosts}\n", "")
    write_config(home, f"{entry}  {line}\n")
    (home / ".ssh" / "known_hosts").unlink()
    error = refusal(KITCHEN)
    assert "is not known here" in error.message
    assert ("edgebert always checks" in str(error.hint)) == line.startswith("Strict")


def test_a_hashed_known_hosts_file_counts(home: Path, kept: Server) -> None:
    hashed = home / ".ssh" / "known_hosts"
    know(home, kept, hashed.read_text())
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(hashed)], check=True, capture_output=True)
    assert kept.address not in hashed.read_text()
    assert reach(KITCHEN) == "here\n"


def test_a_damaged_known_hosts_file_is_reported(home: Path, kept: Server) -> None:
    know(home, kept, "@dance kitchen ssh-ed25519 AAAA\n")
    assert "Invalid known hosts marker" in refusal(KITCHEN).message


def test_a_changed_host_key_is_refused_and_what_to_do_works(home: Path, server: Server) -> None:
    use(server, home)
    assert reach(KITCHEN) == "here\n"
    server.new_host_key()
    server.restart()
    error = refusal(KITCHEN)
    assert "HAS CHANGED" in error.message and str(server.known_hosts) in error.message
    assert error.message.count("SHA256:") == 2
    command = f"ssh-keygen -f {server.known_hosts} -R '[{server.address}]:{server.port}'"
    assert command in str(error.hint)
    subprocess.run(shlex.split(command), check=True, capture_output=True)
    assert "is not known here" in refusal(KITCHEN).message


def test_a_host_key_of_another_kind_than_the_known_one_has_changed(home: Path, kept: Server, tmp_path: Path) -> None:
    know(home, kept, kept.known_hosts_line().split()[0] + " " + make_key(tmp_path / "other", "ecdsa").read_text())
    assert "HAS CHANGED" in refusal(KITCHEN).message


def test_a_revoked_host_key_is_refused(home: Path, kept: Server) -> None:
    know(home, kept, kept.known_hosts_line() + "@revoked " + kept.known_hosts_line())
    assert "is revoked" in refusal(KITCHEN).message


def test_a_key_that_is_not_let_in_is_reported(home: Path, kept: Server, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    write_config(home, kept.config_entry("kitchen").replace(str(kept.identity), str(tmp_path / "other")))
    error = refusal(KITCHEN)
    assert f"does not let {kept.user} in" in error.message
    assert "ssh-copy-id" in str(error.hint) and "never a password" in str(error.hint)


def test_a_port_where_nobody_listens_is_reported(home: Path) -> None:
    error = refusal(SshDevice("x", SshAddress("127.0.0.1", port=free_port())))
    assert "refused the connection" in error.message


def test_a_name_that_nobody_has_is_reported(home: Path) -> None:
    assert "There is no host no-such-host.invalid" in refusal(SshDevice("x", SshAddress("no-such-host.invalid"))).message


@contextlib.contextmanager
def listening(answer: bytes) -> Iterator[int]:
    """A server that accepts connections and sends that to each. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        open_ones: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.sendall(answer)
                    open_ones.append(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in open_ones:
            connection.close()


def test_a_server_that_never_speaks_is_given_up(home: Path) -> None:
    with listening(b"") as port:
        write_config(home, "Host *\n  ConnectTimeout 1\n")
        error = refusal(SshDevice("x", SshAddress("127.0.0.1", port=port)))
    assert f"127.0.0.1 port {port} did not answer within 1 s" in error.message


def test_what_is_no_ssh_server_is_reported(home: Path) -> None:
    with listening(b"HTTP/1.0 400 Bad Request\r\n\r\n" * 2000) as port:
        error = refusal(SshDevice("x", SshAddress("127.0.0.1", port=port)))
    assert "no SSH server" in error.message or "ended the connection" in error.message


def test_python3_serves_where_no_environment_was_made(home: Path, kept: Server) -> None:
    """By default <root>/venv is tried first, which does not exist."""
    assert not (kept.home / "edgebert").exists()
    assert hello(KITCHEN)["edgebert_version"]


def test_a_jump_host_is_gone_through_and_its_key_is_checked(home: Path, kept: Server, server: Server) -> None:
    entry = server.config_entry("attic") + "  ProxyJump kitchen\n"
    write_config(home, kept.config_entry("kitchen") + entry)
    device = SshDevice("attic", SshAddress("attic"))
    assert reach(device) == "here\n"
    assert "by kitchen" in device.machine
    write_config(home, kept.config_entry("kitchen").replace(str(kept.known_hosts), "none") + entry)
    error = refusal(device)
    assert "The host key of kitchen is not known here" in error.message


def test_each_jump_host_is_reached_through_the_one_before(home: Path, kept: Server, server: Server, tmp_path: Path) -> None:
    with started(tmp_path / "cellar") as cellar:
        entry = server.config_entry("attic") + "  ProxyJump kitchen,cellar\n"
        way = cellar.config_entry("cellar") + "  ProxyCommand false\n"  # which would be tried without the kitchen
        write_config(home, kept.config_entry("kitchen") + way + entry)
        before = kept.log.count("Accepted publickey")
        assert reach(SshDevice("attic", SshAddress("attic"))) == "here\n"
        assert kept.log.count("Accepted publickey") == before + 1
        assert cellar.log.count("Accepted publickey") == 1


def test_a_host_behind_a_jump_host_that_is_not_there_is_reported(home: Path, kept: Server) -> None:
    write_config(
        home, kept.config_entry("kitchen") + f"Host attic\n  HostName 127.0.0.1\n  Port {free_port()}\n  ProxyJump kitchen\n"
    )
    assert "cannot be reached from the jump host" in refusal(SshDevice("attic", SshAddress("attic"))).message


def test_a_way_in_circles_ends(home: Path, kept: Server) -> None:
    write_config(home, f"Host attic\n  HostName {kept.address}\n  ProxyJump cellar\nHost cellar\n  ProxyJump attic\n")
    assert "more than 8 hosts" in refusal(SshDevice("attic", SshAddress("attic"))).message


def test_a_proxy_command_is_used(home: Path, kept: Server) -> None:
    script = home / "proxy.py"
    script.write_text(
        "import os, select, socket, sys\n"
        f"there = socket.create_connection(('{kept.address}', {kept.port}))\n"
        "while True:\n"
        "    for ready in select.select([there, 0], [], [])[0]:\n"
        "        data = there.recv(65536) if ready is there else os.read(0, 65536)\n"
        "        if not data: sys.exit()\n"
        "        there.sendall(data) if ready == 0 else os.write(1, data)\n"
    )
    use(kept, home, f"ProxyCommand python3 {script}")
    assert reach(KITCHEN) == "here\n"


def test_a_server_that_is_killed_in_the_middle_is_lost(home: Path, server: Server, tmp_path: Path) -> None:
    use(server, home)
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            sent += 1 << 16
            yield b"x" * (1 << 16)
            if sent == 5 << 20:
                await asyncio.to_thread(server.kill)

    async def work(channel: Channel) -> Any:
        request = Receive(root=str(tmp_path / "root"), pieces=(Piece(sha256="0" * 64, size=10_000 << 16),))
        return await channel.ask(request, body=body())

    with pytest.raises(DeviceLost, match="connection to kitchen was cut") as error:
        asyncio.run(_over(KITCHEN, work))
    assert "same command goes on" in str(error.value.hint)
    assert sent < 100 << 20


def test_a_server_that_is_killed_while_an_answer_is_awaited_is_lost(home: Path, server: Server) -> None:
    use(server, home)

    async def work(channel: Channel) -> Any:
        running = asyncio.create_task(channel.run(["sleep", "600"]))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(server.kill)
        return await running

    with pytest.raises(DeviceLost):
        asyncio.run(_over(KITCHEN, work))


def test_a_channel_whose_connection_is_gone_is_lost_for_the_next_request(home: Path, server: Server) -> None:
    use(server, home)

    async def work(channel: Channel) -> Any:
        await channel.ask(Hello())
        await asyncio.to_thread(server.kill)
        return await channel.ask(Hello())

    with pytest.raises(DeviceLost):
        asyncio.run(_over(KITCHEN, work))


def test_a_server_that_falls_silent_is_noticed(home: Path, server: Server) -> None:
    use(server, home, "ServerAliveInterval 1", "ServerAliveCountMax 1")

    async def work(channel: Channel) -> Any:
        running = asyncio.create_task(channel.run(["sleep", "600"]))
        await asyncio.sleep(0.2)
        server.freeze()
        return await running

    with pytest.raises(DeviceLost):
        asyncio.run(_over(KITCHEN, work))


async def _over(device: SshDevice, work: Any) -> Any:
    async with device.open() as channel:
        return await work(channel)


@pytest.mark.parametrize("command", [("devices", "status"), ("devices", "check"), ("rollback",)])
def test_without_the_package_for_ssh_the_message_says_what_to_install(
    cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    done = cli(*command, "pi@kitchen", "pi@attic")
    assert done.code == 3
    assert "needs the package asyncssh" in done.out and 'pip install "edgebert[ship]"' in done.out
    assert "Traceback" not in done.err


def test_a_command_line_is_quoted_but_for_the_home() -> None:
    assert command_line("~/edgebert/venv/bin/python", ("-P", "-m", "edgebert.devices.agent.agent")) == (
        "~/edgebert/venv/bin/python -P -m edgebert.devices.agent.agent"
    )
    assert command_line("~/my models/venv/bin/python", ("a'b", "$x")) == "~/'my models/venv/bin/python' 'a'\"'\"'b' '$x'"
    assert command_line("/opt/x; rm -rf /", ()) == "'/opt/x; rm -rf /'"
