"""Real OpenSSH servers on this machine, each with its own keys and home, on loopback or in a network namespace."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
IP = shutil.which("ip") or "/usr/sbin/ip"
STARTS_WITHIN_S = 60.0
NETWORK = "198.18.{}.{}"
"""Addresses set aside for tests of networks (RFC 2544): no real host has one."""

CONFIG = """
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
PrintLastLog no
StrictModes no
UsePAM no
UseDNS no
MaxStartups 50
MaxSessions 50
SetEnv {environment}
LogLevel VERBOSE
{more}
"""


def why_not() -> str | None:
    """Why no server can be started here; None if one can."""
    if not Path(SSHD).is_file():
        return "there is no OpenSSH server here (apt-get install openssh-server)"
    return None if shutil.which("ssh-keygen") else "there is no ssh-keygen here"


def why_no_namespaces() -> str | None:
    """Why no network namespace can be made here; None if one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not Path(IP).is_file():
        return "there is no `ip` here (apt-get install iproute2)"
    name = f"edgebert-try-{os.getpid()}"
    made = subprocess.run([IP, "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    subprocess.run([IP, "netns", "del", name], check=False)
    return None


needs_sshd = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@dataclass
class Server:
    """A server. Its logins are the user that runs the tests, with `home` as home."""

    folder: Path
    address: str
    port: int
    namespace: str | None
    known_hosts: Path
    """The clients' file with this server's key."""
    identity: Path
    """The clients' private key, which is let in."""
    home: Path
    user: str = field(default_factory=lambda: pwd.getpwuid(os.geteuid()).pw_name)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address as edgebert takes it."""
        return f"ssh://{self.user}@{self.address}:{self.port}"

    @property
    def log(self) -> str:
        """Its log."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Starts it and waits until it answers."""
        inside = [IP, "netns", "exec", self.namespace] if self.namespace else []
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*inside, SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ends = time.monotonic() + STARTS_WITHIN_S
        while not self._answers():
            assert self._process.poll() is None, f"sshd ended:\n{self.log}"
            assert time.monotonic() < ends, f"sshd does not answer:\n{self.log}"
            time.sleep(0.02)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), timeout=1) as there:
            return there.recv(4) == b"SSH-"
        return False

    def kill(self) -> None:
        """Ends the server and its open connections at once, as a reboot would. Their commands run on without a reader."""
        if self._process is not None:
            for pid in (self._process.pid, *_sessions(self._process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Ends it and starts it again at the same port, with the present files of its folder."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stops all its processes: connections stay open, and nothing answers."""
        assert self._process is not None
        for pid in (self._process.pid, *_sessions(self._process.pid)):
            os.kill(pid, signal.SIGSTOP)

    def new_host_key(self) -> None:
        """Gives it another host key at its next start. The clients' known_hosts keeps the old one."""
        (self.folder / "host_key").unlink()
        _make_key(self.folder / "host_key")

    def known_hosts_line(self) -> str:
        """The line of known_hosts that names its key."""
        name = self.address if self.port == 22 else f"[{self.address}]:{self.port}"
        return f"{name} {' '.join((self.folder / 'host_key.pub').read_text().split()[:2])}\n"

    def config_entry(self, alias: str) -> str:
        """Lines for a client's ~/.ssh/config."""
        return (
            f"Host {alias}\n  HostName {self.address}\n  Port {self.port}\n  User {self.user}\n"
            f"  IdentityFile {self.identity}\n  UserKnownHostsFile {self.known_hosts}\n"
        )


def _sessions(listener: int) -> list[int]:
    """The processes of a server's open connections: each is the leader of a session of its own."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
    found = [listener]
    for _ in range(3):  # a connection of another user than the server's has two processes, one below the other
        for pid, parent, command in (line.split(None, 2) for line in listed.splitlines()):
            if int(parent) in found and int(pid) not in found and command.startswith("sshd"):
                found.append(int(pid))
    return found[1:]


def start_server(
    folder: Path,
    address: str = "127.0.0.1",
    namespace: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    more: Sequence[str] = (),
) -> Server:
    """Starts a server.

    Args:
        folder: for all its files; made if it is missing.
        address: the address to listen at, with a free port.
        namespace: the network namespace to run in.
        environment: more variables for its commands; HOME, configuration and caches are in `folder`.
        more: lines of its configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    home = folder / "home"
    home.mkdir(exist_ok=True)
    for name in ("host_key", "identity"):
        _make_key(folder / name)
    shutil.copyfile(folder / "identity.pub", folder / "authorized_keys")
    # Names of modules and of caches must not come in from the tests' own environment.
    variables = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        **(environment or {}),
    }
    port = 22 if namespace else free_port(address)
    written = " ".join(f'"{name}={value}"' for name, value in variables.items())
    config = CONFIG.format(port=port, address=address, folder=folder, environment=written, more="\n".join(more))
    (folder / "sshd_config").write_text(config)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where a server that starts as root locks itself in
    server = Server(folder, address, port, namespace, folder / "known_hosts", folder / "identity", home)
    server.known_hosts.write_text(server.known_hosts_line())
    server.start()
    return server


def _make_key(file: Path) -> None:
    if not file.exists():
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edgebert-tests", "-f", str(file)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def free_port(address: str = "127.0.0.1") -> int:
    """A free port."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as free:
        free.bind((address, 0))
        return int(free.getsockname()[1])


def make_ssh_home(folder: Path, servers: Mapping[str, Server]) -> Path:
    """A client's home whose ~/.ssh/config knows the servers by those names. Give it to HOME."""
    ssh = folder / ".ssh"
    ssh.mkdir(parents=True, exist_ok=True)
    (ssh / "config").write_text("".join(server.config_entry(alias) for alias, server in servers.items()))
    (ssh / "known_hosts").write_text("".join(server.known_hosts_line() for server in servers.values()))
    return folder


@dataclass(frozen=True)
class Namespace:
    """A network namespace with one address, reached from here by a pair of virtual interfaces."""

    name: str
    link: str
    address: str

    def remove(self) -> None:
        """Kills its processes and removes it."""
        listed = subprocess.run([IP, "netns", "pids", self.name], capture_output=True, text=True, check=False)
        for pid in listed.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for command in (["link", "del", self.link], ["netns", "del", self.name]):
            subprocess.run([IP, *command], capture_output=True, check=False)


def make_namespace() -> Namespace:
    """Makes a namespace at the first free address."""
    for number in itertools.count():
        assert number < 256, "no address is free"
        name, link = f"edgebert-{os.getpid()}-{number}", f"eb{number}h"
        outer, inner = NETWORK.format(number, 1), NETWORK.format(number, 2)
        if subprocess.run(
            [IP, "link", "add", link, "type", "veth", "peer", "name", f"eb{number}d"], capture_output=True
        ).returncode:
            continue  # another test process has it
        made = Namespace(name, link, inner)
        try:
            for command in (
                ["netns", "add", name],
                ["link", "set", f"eb{number}d", "netns", name],
                ["addr", "add", f"{outer}/30", "dev", link],
                ["link", "set", link, "up"],
                ["-n", name, "addr", "add", f"{inner}/30", "dev", f"eb{number}d"],
                ["-n", name, "link", "set", f"eb{number}d", "up"],
                ["-n", name, "link", "set", "lo", "up"],
            ):
                subprocess.run([IP, *command], check=True, capture_output=True)
        except BaseException:
            made.remove()
            raise
        return made
    raise AssertionError


@contextlib.contextmanager
def started(folder: Path, address: str = "127.0.0.1", namespace: str | None = None, **options: object) -> Iterator[Server]:
    """A server that is ended afterwards."""
    server = start_server(folder, address, namespace, **options)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def three_hosts(folder: Path) -> Iterator[dict[str, Server]]:
    """Servers called `kitchen`, `attic` and `cellar`: hosts of their own where that can be, else three ports of loopback."""
    with contextlib.ExitStack() as stack:
        servers = {}
        for name in ("kitchen", "attic", "cellar"):
            if why_no_namespaces():
                servers[name] = stack.enter_context(started(folder / name))
            else:
                namespace = make_namespace()
                stack.callback(namespace.remove)
                servers[name] = stack.enter_context(started(folder / name, namespace.address, namespace.name))
        yield servers


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Three hosts. Use it with `from ssh_server import hosts` and `make_ssh_home`."""
    if reason := why_not():
        pytest.skip(reason)
    with three_hosts(tmp_path_factory.mktemp("hosts")) as servers:
        yield servers
