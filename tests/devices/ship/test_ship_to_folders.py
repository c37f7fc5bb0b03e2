"""Shipping to folders of this machine, each with a real agent: what is sent, and what serves after a failure."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from bundles import INT8_FILE, small_bundle, with_labels, with_other_graph, with_selected_alone
from pydantic import BaseModel
from strange_python import killed_at

import edgebert
from edgebert.bundle.manifest import MANIFEST
from edgebert.core.parallel_progress import SilentParallelProgress
from edgebert.devices.agent.protocol import Advance, Note, Received, VariantTrial
from edgebert.devices.ship.delivery import Delivery, Order
from edgebert.devices.ship.payload import load_payload
from edgebert.devices.ship.rollout import Rollout
from edgebert.devices.transport.base import Channel, Device, OnEvent
from edgebert.devices.transport.fake import Faulty, FaultyChannel
from edgebert.devices.transport.local import LocalDevice
from edgebert.errors import EXIT_ENVIRONMENT, DeviceLost
from edgebert.report.file import read_report

QUICK = VariantTrial(rounds=1, queries=4, warmup=1)
USUAL: dict[str, Any] = {"trial": QUICK, "wait_s": 0.0, "replace": frozenset({"labels"})}
"""As little measuring as there can be; the new bundle has other labels than the old one."""
TEXT = "a good film"


@pytest.fixture(scope="module")
def old(model_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with one INT8 graph; do not write into it."""
    return with_selected_alone(small_bundle(model_template), tmp_path_factory.mktemp("old") / "bundle")


@pytest.fixture(scope="module")
def new(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with another file of the INT8 graph and other labels; do not write into it."""
    folder = tmp_path_factory.mktemp("new")
    return with_labels(with_other_graph(old, folder / "variant"), folder / "bundle")


def ship(devices: Sequence[Device], bundle: Path, **order: Any) -> list[Delivery]:
    """Ships with as little measuring as there can be."""
    rollout = Rollout(
        devices,
        load_payload(bundle),
        Order(**{**USUAL, **order}),
        SilentParallelProgress(),
    )
    asyncio.run(rollout.run())
    return rollout.results


@pytest.fixture(scope="module")
def serving(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device's folder that serves the old bundle; do not write into it."""
    folder = tmp_path_factory.mktemp("serving") / "device"
    (delivery,) = ship([LocalDevice("kitchen", folder)], old, reports=folder.parent)
    assert (delivery.outcome, delivery.variant, delivery.reason) == ("switched", "onnxruntime/int8-dynamic", None)
    assert delivery.sent_bytes == delivery.payload_bytes == load_payload(old).size_bytes
    return folder


@pytest.fixture
def folder(serving: Path, tmp_path: Path) -> Path:
    """A copy of that folder, for one test."""
    return Path(shutil.copytree(serving, tmp_path / "device", symlinks=True))


def answer(folder: Path) -> str:
    """The answer of the serving bundle."""
    return edgebert.load(folder / "current")(TEXT).label


def words(bundle: Path) -> list[str]:
    return list(json.loads((bundle / MANIFEST).read_text())["labels"])


def test_what_comes_back_is_a_report_of_that_device(serving: Path, old: Path) -> None:
    report = read_report(serving.parent / "kitchen.json")
    assert report.recipe.endswith("on kitchen")
    assert [entry.name for entry in report.candidates()] == ["onnxruntime/int8-dynamic"]
    assert len(report.candidates()[0].latencies_ms()) >= QUICK.queries


@pytest.mark.slow
def test_an_agent_that_is_killed_before_the_switch_leaves_the_old_model(
    folder: Path, old: Path, new: Path, tmp_path: Path
) -> None:
    python = killed_at(tmp_path / "python", "/current", before=True)
    (delivery,) = ship([LocalDevice("kitchen", folder, python=python)], new, attempts=1)
    assert (delivery.outcome, delivery.exit_code) == ("failed", EXIT_ENVIRONMENT)
    assert answer(folder) in words(old)
    (again,) = ship([LocalDevice("kitchen", folder)], new)
    assert (again.outcome, again.sent_bytes) == ("switched", 0)
    assert answer(folder) in words(new)


@pytest.mark.slow
def test_an_agent_that_is_killed_after_the_switch_has_switched_and_the_next_call_says_so(
    folder: Path, new: Path, tmp_path: Path
) -> None:
    python = killed_at(tmp_path / "python", "/current", before=False)
    (delivery,) = ship([LocalDevice("kitchen", folder, python=python)], new, attempts=2)
    assert (delivery.outcome, delivery.variant) == ("switched", "onnxruntime/int8-dynamic")
    assert answer(folder) in words(new)


def test_a_bundle_that_was_altered_after_it_was_read_is_refused_there(
    folder: Path, old: Path, new: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(new, tmp_path / "bundle"))
    payload = load_payload(bundle)
    data = bytearray((bundle / INT8_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / INT8_FILE).write_bytes(data)
    rollout = Rollout([LocalDevice("kitchen", folder)], payload, Order(**USUAL), SilentParallelProgress())
    asyncio.run(rollout.run())
    (delivery,) = rollout.results
    assert (delivery.outcome, delivery.exit_code) == ("failed", EXIT_ENVIRONMENT)
    assert "arrived with another content" in delivery.reason
    assert answer(folder) in words(old)


@pytest.fixture
def little_disk(folder: Path, tmp_path: Path) -> Iterator[Path]:
    """That folder on a disk of 20 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip() or 'it needs root'}")
    try:
        yield Path(shutil.copytree(folder, disk / "device", symlinks=True))
    finally:
        subprocess.run(["umount", disk], check=True)


class FullAt(Faulty):
    """Its disk is full from that request on."""

    def __init__(self, inner: Device, op: str, disk: Path) -> None:
        super().__init__(inner)
        self.op, self.filler = op, disk / "filler"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Channel]:
        """Opens the device inside."""
        async with self.inner.open() as channel:
            yield FillingChannel(self, channel)


class FillingChannel(FaultyChannel):
    """Its channel."""

    async def ask(self, request: BaseModel, **how: Any) -> dict[str, Any]:
        """As `Channel.ask`."""
        assert isinstance(self._device, FullAt)
        if request.op == self._device.op:  # type: ignore[attr-defined]
            self._device.filler.write_bytes(bytes(10 << 20))
        return await super().ask(request, **how)


@pytest.mark.slow
@pytest.mark.parametrize(("op", "sent"), [("hello", 0), ("receive", None)])
def test_a_full_disk_there_leaves_the_old_model_and_the_next_ship_goes_on(
    little_disk: Path, old: Path, new: Path, op: str, sent: int | None
) -> None:
    device = FullAt(LocalDevice("kitchen", little_disk), op, little_disk.parent)
    (delivery,) = ship([device], new)
    assert (delivery.outcome, delivery.exit_code) == ("failed", EXIT_ENVIRONMENT)
    assert "MB free" in delivery.reason and "ake room" in delivery.hint
    assert sent is None or delivery.sent_bytes == sent
    assert answer(little_disk) in words(old)
    device.filler.unlink()
    if op == "receive":  # once is enough: it takes its time
        (again,) = ship([LocalDevice("kitchen", little_disk)], new)
        assert again.outcome == "switched"
        assert answer(little_disk) in words(new)


class Cuts(Faulty):
    """Cut once after each of these many bytes, when the agent has begun to read; `watch` is called before every call."""

    def __init__(self, inner: Device, after: Sequence[int], watch: Callable[[], None]) -> None:
        super().__init__(inner)
        self._after, self._watch = list(after), watch
        self.cut()

    def cut(self) -> DeviceLost:
        """Sets the next one."""
        self.cut_after = self._after.pop(0) if self._after else None
        return super().cut()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Channel]:
        """By now the agent of the last call has ended."""
        self._watch()
        async with self.inner.open() as channel:
            yield CutChannel(self, channel)


class CutChannel(FaultyChannel):
    """Without it an agent that takes half a second to start would have been ended before it read anything."""

    def __init__(self, device: Faulty, inner: Channel) -> None:
        super().__init__(device, inner)
        self._reads = asyncio.Event()

    async def ask(self, request: BaseModel, *, on_event: OnEvent | None = None, **body: Any) -> dict[str, Any]:
        """As `Channel.ask`."""

        def heard(event: Note | Advance | Received) -> None:
            self._reads.set()
            if on_event:
                on_event(event)

        return await super().ask(request, on_event=heard, **body)

    async def _counted(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for part in super()._counted(body):
                yield part
        except DeviceLost:
            await self._reads.wait()
            await asyncio.sleep(0.05)
            raise


@pytest.mark.slow
def test_a_transfer_that_is_cut_at_twenty_points_goes_on_and_the_old_model_serves_meanwhile(
    folder: Path, old: Path, new: Path
) -> None:
    missing = sum((new / name).stat().st_size for name in (INT8_FILE, MANIFEST, "edgebert.sig"))
    points = sorted(random.Random(20).sample(range(1, missing), 20))
    sent, arrived, answers = [], [], []

    def watch() -> None:
        sent.append(device.sent_bytes)
        arrived.append(sum(file.stat().st_size for file in (folder / "incoming").glob("?" * 64 + "*")))
        answers.append(answer(folder))

    device = Cuts(LocalDevice("kitchen", folder), [end - start for start, end in itertools.pairwise([0, *points])], watch)
    (delivery,) = ship([device], new, attempts=21)
    assert (delivery.outcome, answer(folder) in words(new)) == ("switched", True)
    assert len(answers) == 21 and set(answers) <= set(words(old))
    in_flight = [out - came for out, came in zip(differences(sent), differences(arrived), strict=True)]
    assert min(in_flight) >= 0 and arrived[-1] > 0
    assert device.sent_bytes == missing + sum(in_flight)  # nothing that had arrived was sent again


def differences(values: Sequence[int]) -> list[int]:
    return [after - before for before, after in itertools.pairwise(values)]
