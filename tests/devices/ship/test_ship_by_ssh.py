"""Shipping over real SSH servers: what serves when the server is killed, the key is wrong, or the host is another one."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from bundles import INT8_FILE, small_bundle, with_labels, with_other_graph, with_selected_alone
from pydantic import BaseModel
from ssh_server import Server, make_ssh_home, needs_sshd, started

import edgebert
from edgebert.bundle.manifest import MANIFEST
from edgebert.bundle.trust.keys import ensure_own_key
from edgebert.core.parallel_progress import SilentParallelProgress
from edgebert.devices.agent.protocol import Advance, Note, Pin, Received, VariantTrial
from edgebert.devices.ship.delivery import Delivery, Order
from edgebert.devices.ship.payload import load_payload
from edgebert.devices.ship.rollout import Rollout
from edgebert.devices.transport.address import SshAddress
from edgebert.devices.transport.base import Channel, Device, OnEvent
from edgebert.devices.transport.fake import Faulty, FaultyChannel
from edgebert.devices.transport.ssh import SshDevice
from edgebert.errors import EXIT_ENVIRONMENT, EXIT_INPUT

pytestmark = [needs_sshd, pytest.mark.slow]
QUICK = VariantTrial(rounds=1, queries=4, warmup=1)
USUAL: dict[str, Any] = {"trial": QUICK, "wait_s": 0.0, "replace": frozenset({"labels"})}
"""As little measuring as there can be; the new bundle has other labels than the old one."""
OLD, NEW = {"negative", "positive"}, {"minus", "plus"}


@pytest.fixture(scope="module")
def made(model_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles `old` and `new`, of another INT8 graph and with other words; do not write into it."""
    folder = tmp_path_factory.mktemp("made")
    with_selected_alone(small_bundle(model_template), folder / "old")
    with_labels(with_other_graph(folder / "old", folder / "between"), folder / "new")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose user trusts the own key."""
    with started(tmp_path_factory.mktemp("host")) as running:
        yield running


@pytest.fixture
def kitchen(server: Server, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshDevice]:
    """A device on that server that serves the old bundle, restored after the test."""
    monkeypatch.setenv("HOME", str(make_ssh_home(tmp_path / "home", {"kitchen": server})))
    device = SshDevice("kitchen", SshAddress("kitchen"), python=sys.executable)
    asyncio.run(pin(device))
    root = server.home / "edgebert"
    kept = server.home / "kept"
    if not kept.exists():
        (delivery,) = ship(device, made / "old")
        assert delivery.outcome == "switched", delivery
        shutil.copytree(root, kept, symlinks=True)
    yield device
    server.restart()
    shutil.rmtree(root)
    shutil.copytree(kept, root, symlinks=True)


async def pin(device: Device) -> None:
    """What `devices setup` does for trust."""
    async with device.open() as channel:
        await channel.ask(Pin(name="workstation", pem=ensure_own_key().pem))


def ship(device: Device, bundle: Path, **order: Any) -> list[Delivery]:
    """Ships with as little measuring as there can be."""
    rollout = Rollout(
        [device],
        load_payload(bundle),
        Order(**{**USUAL, **order}),
        SilentParallelProgress(),
    )
    asyncio.run(rollout.run())
    return rollout.results


def answer(server: Server) -> str:
    """The answer of the serving bundle."""
    return edgebert.load(server.home / "edgebert" / "current")("a good film").label


class Killed(Faulty):
    """Its server is killed after so many bytes of contents, and again while it measures; it is back at the next call."""

    def __init__(self, inner: Device, server: Server, after: list[int], watch: Callable[[], None]) -> None:
        super().__init__(inner)
        self.server, self.after, self.watch = server, after, watch

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Channel]:
        """Opens the device inside."""
        if self.asked:
            self.watch()
            self.server.start()
        async with self.inner.open() as channel:
            yield KilledChannel(self, channel)


class KilledChannel(FaultyChannel):
    """Its channel."""

    def __init__(self, device: Killed, inner: Channel) -> None:
        super().__init__(device, inner)
        self._killed = device

    async def ask(self, request: BaseModel, *, on_event: OnEvent | None = None, **body: Any) -> dict[str, Any]:
        """As `Channel.ask`."""

        def heard(event: Note | Advance | Received) -> None:
            if isinstance(event, Advance) and event.title == "measure latency" and self._killed.after == []:
                self._killed.after = [0]
                self._killed.server.kill()
            if on_event:
                on_event(event)

        return await super().ask(request, on_event=heard, **body)

    async def _counted(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        if not self._killed.after:
            async for part in super()._counted(body):
                yield part
            return
        left = self._killed.after.pop(0)
        async for part in super()._counted(body):
            yield part[:left]
            if len(part) >= left:
                self._killed.server.kill()
                await asyncio.sleep(60)  # until the connection is noticed to be gone
            left -= len(part)


def test_a_server_that_is_killed_leaves_the_old_model_and_the_next_call_goes_on(
    kitchen: SshDevice, server: Server, made: Path
) -> None:
    missing = sum((made / "new" / name).stat().st_size for name in (INT8_FILE, MANIFEST, "edgebert.sig"))
    answers: list[str] = []
    device = Killed(kitchen, server, random.Random(4).sample(range(1, missing // 2), 3), lambda: answers.append(answer(server)))
    (delivery,) = ship(device, made / "new", attempts=5)
    assert (delivery.outcome, delivery.reason) == ("switched", None)
    assert len(answers) == 4 and set(answers) <= OLD  # three times in the transfer, once while it measured
    assert answer(server) in NEW


def test_a_server_that_stays_away_is_reported_after_the_attempts(kitchen: SshDevice, server: Server, made: Path) -> None:
    device = Killed(kitchen, server, [1000], lambda: None)
    device.server.start = lambda: None  # type: ignore[method-assign]
    try:
        (delivery,) = ship(device, made / "new", attempts=3)
    finally:
        del device.server.start
    assert (delivery.outcome, delivery.exit_code) == ("failed", EXIT_ENVIRONMENT)
    assert device.asked.count("hello") == 1
    assert answer(server) in OLD


@contextmanager
def emptied(file: Path) -> Iterator[None]:
    """A file that is empty for a while."""
    before = file.read_text()
    file.write_text("")
    try:
        yield
    finally:
        file.write_text(before)


@contextmanager
def other_host_key(server: Server) -> Iterator[None]:
    """A server with another host key than its clients know, until it starts the next time."""
    keys = {name: (server.folder / name).read_bytes() for name in ("host_key", "host_key.pub")}
    server.new_host_key()
    server.restart()
    try:
        yield
    finally:
        for name, data in keys.items():
            (server.folder / name).write_bytes(data)


REFUSALS = {
    "user key": (lambda server: emptied(server.folder / "authorized_keys"), EXIT_ENVIRONMENT, "no key of this machine", ""),
    "host key": (other_host_key, EXIT_ENVIRONMENT, "THE HOST KEY OF kitchen HAS CHANGED, so nothing was sent", ""),
    "signer": (
        lambda server: emptied(server.home / ".config" / "edgebert" / "trust.toml"),
        EXIT_INPUT,
        "kitchen does not trust the key that signed the bundle",
        "edgebert devices setup.*edgebert keys trust",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_key_that_is_not_accepted_changes_nothing(kitchen: SshDevice, server: Server, made: Path, case: str) -> None:
    fault, code, reason, hint = REFUSALS[case]
    with fault(server):
        (delivery,) = ship(kitchen, made / "new")
    assert (delivery.outcome, delivery.exit_code, delivery.sent_bytes) == ("failed", code, 0)
    assert reason in delivery.reason and re.search(hint, delivery.hint, re.DOTALL)
    assert answer(server) in OLD
