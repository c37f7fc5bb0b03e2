"""Many devices at once: the outcome of each, canaries, turns of devices on one machine, and repeated connections."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundles import small_bundle
from fake_device import FakeDevice, Together

from edgebert.bundle.manifest import MANIFEST
from edgebert.bundle.read import read_manifest
from edgebert.bundle.trust.policy import Signer
from edgebert.core.parallel_progress import SilentParallelProgress
from edgebert.core.store import hash_file
from edgebert.devices.agent.protocol import RequestedFile
from edgebert.devices.ship.delivery import Delivery, Order
from edgebert.devices.ship.payload import Payload
from edgebert.devices.ship.rollout import Rollout, exit_code
from edgebert.devices.ship.text import delivery_lines
from edgebert.errors import EXIT_ENVIRONMENT, EXIT_GATE_FAILED, EXIT_INPUT, DeviceError
from edgebert.report.file import read_report

KEY = "a" * 64


def payload_of(folder: Path, *, runtime: str | None = None) -> Payload:
    """The payload of a bundle, without the check of its signature."""
    manifest = read_manifest(folder)
    if runtime:
        target = manifest.variants[0].target.model_copy(update={"runtime": runtime})
        variants = [variant.model_copy(update={"target": target}) for variant in manifest.variants]
        manifest = manifest.model_copy(update={"variants": tuple(variants)})
    names = [*manifest.files, MANIFEST]
    files = [RequestedFile(path=name, sha256=hash_file(folder / name), size=(folder / name).stat().st_size) for name in names]
    return Payload(folder, manifest, Signer("unsigned", "unsigned"), tuple(files))


@pytest.fixture(scope="module")
def small(model_template: Path) -> Path:
    """A small bundle; do not write into it."""
    return small_bundle(model_template)


@pytest.fixture
def ship(small: Path) -> Callable[..., list[Delivery]]:
    """Ships the small bundle to devices in memory."""

    def run(devices: Sequence[FakeDevice], payload: Payload | None = None, **order: Any) -> list[Delivery]:
        rollout = Rollout(devices, payload or payload_of(small), Order(**{"wait_s": 0.0, **order}), SilentParallelProgress())
        asyncio.run(rollout.run())
        return rollout.results

    return run


def outcomes(deliveries: Sequence[Delivery]) -> list[str]:
    return [item.outcome for item in deliveries]


def test_every_content_travels_once_and_is_counted(ship: Any, small: Path) -> None:
    device = FakeDevice("kitchen")
    (delivery,) = ship([device])
    assert outcomes([delivery]) == ["switched"]
    payload = payload_of(small)
    assert delivery.sent_bytes == delivery.payload_bytes == payload.size_bytes == sum(map(len, device.parts.values()))
    assert {sha256: len(data) for sha256, data in device.parts.items()} == {file.sha256: file.size for file in payload.files}
    assert 500 < delivery.protocol_bytes < 20_000
    assert (delivery.variant, delivery.p50_before_ms, delivery.p50_ms) == ("v", None, 2.0)


def test_small_contents_travel_first(small: Path) -> None:
    sizes = [piece.size for piece in payload_of(small).missing({})]
    assert sizes == sorted(sizes) and len(sizes) > 5


def test_only_what_is_missing_travels(ship: Any, small: Path) -> None:
    held = max(payload_of(small).files, key=lambda file: file.size)
    device = FakeDevice("kitchen", parts={held.sha256: (small / held.path).read_bytes()[:1000]})
    (delivery,) = ship([device])
    assert delivery.outcome == "switched"
    assert delivery.sent_bytes == delivery.payload_bytes - 1000


@pytest.mark.parametrize("claim", [-5, 10**15])
def test_a_device_that_lies_about_what_it_holds_breaks_nothing_here(small: Path, claim: int) -> None:
    payload = payload_of(small)
    for piece in payload.missing(dict.fromkeys(payload.contents, claim)):
        assert 0 <= piece.offset <= piece.size


def test_a_device_that_serves_the_bundle_already_is_left_alone(ship: Any) -> None:
    device = FakeDevice("kitchen")
    ship([device])
    device.asked.clear()
    (delivery,) = ship([device])
    assert (delivery.outcome, delivery.sent_bytes, delivery.exit_code) == ("unchanged", 0, 0)
    assert device.asked == ["hello", "status"]


@pytest.mark.parametrize("seed", range(20))
def test_a_lost_connection_goes_on_where_it_stopped(ship: Any, small: Path, seed: int) -> None:
    total = payload_of(small).size_bytes
    device = FakeDevice("kitchen", lose=[random.Random(seed).randrange(1, total)])
    (delivery,) = ship([device])
    assert delivery.outcome == "switched"
    assert total <= delivery.sent_bytes <= total + 64 * 1024  # what was read and on its way when it was lost


@pytest.mark.parametrize("op", ["hello", "status", "have", "receive", "install", "after install", "after receive"])
def test_a_call_that_is_lost_at_any_request_is_made_again(ship: Any, op: str) -> None:
    (delivery,) = ship([FakeDevice("kitchen", manifests=["0" * 64], lose=[op])])
    assert (delivery.outcome, delivery.reason, delivery.p50_before_ms) == ("switched", None, 2.0)


def test_a_device_that_is_away_for_a_while_is_called_again_only_when_it_was_there_before(ship: Any) -> None:
    away, back = FakeDevice("away", unreachable=1), FakeDevice("back")

    async def leave() -> None:
        if back.during:
            back.during, back.unreachable, back.lose = None, 1, ["after install"]

    back.during = leave
    first, second = ship([away, back])
    assert (first.outcome, first.reason, first.exit_code) == ("failed", "away cannot be reached.", EXIT_ENVIRONMENT)
    assert first.hint == "Is it on?"
    assert second.outcome == "switched"


def test_attempts_end(ship: Any) -> None:
    device = FakeDevice("kitchen", lose=["receive"] * 3)
    (delivery,) = ship([device], attempts=3)
    assert (delivery.outcome, delivery.exit_code) == ("failed", EXIT_ENVIRONMENT)
    assert device.asked.count("receive") == 3


def test_one_bad_device_does_not_stop_the_others(ship: Any) -> None:
    class Broken(FakeDevice):
        async def _hello(self, *_: Any) -> None:
            raise ValueError("a fault of ours")

    found = ship(
        [FakeDevice("away", unreachable=9), Broken("broken"), FakeDevice("slow", outcome="refused"), FakeDevice("fine")]
    )
    assert outcomes(found) == ["failed", "failed", "refused", "switched"]
    assert "fault in edgebert" in found[1].hint
    assert exit_code(found) == EXIT_GATE_FAILED
    assert exit_code(found[:1]) == EXIT_ENVIRONMENT
    assert exit_code(found[3:]) == 0


@pytest.mark.parametrize(
    ("about", "runtime", "words", "code"),
    [
        ({"isas": ("avx2",)}, None, "has none of", EXIT_ENVIRONMENT),
        ({}, "openvino", "openvino is not installed there", EXIT_ENVIRONMENT),
        ({"free_bytes": 10_000}, None, "MB free", EXIT_ENVIRONMENT),
    ],
)
def test_what_cannot_work_is_refused_before_anything_travels(
    ship: Any, small: Path, about: dict[str, Any], runtime: str | None, words: str, code: int
) -> None:
    payload = payload_of(small, runtime=runtime)
    int8 = [variant.model_copy(update={"requires_isa": ("avx512_vnni",)}) for variant in payload.manifest.variants]
    payload = replace(payload, manifest=payload.manifest.model_copy(update={"variants": tuple(int8)}))
    device = FakeDevice("kitchen", about=about)
    (delivery,) = ship([device], payload)
    assert (delivery.outcome, delivery.exit_code, delivery.sent_bytes) == ("failed", code, 0)
    assert words in delivery.reason
    assert "receive" not in device.asked


def test_room_that_was_made_meanwhile_counts(ship: Any) -> None:
    class Tidy(FakeDevice):
        async def _have(self, *arguments: Any) -> Any:
            self.about = {}
            return await super()._have(*arguments)

    (delivery,) = ship([Tidy("kitchen", about={"free_bytes": 10_000})])
    assert delivery.outcome == "switched"


def test_an_unknown_answer_is_the_devices_fault(ship: Any) -> None:
    class Strange(FakeDevice):
        async def ask(self, *_: Any, **__: Any) -> dict[str, Any]:
            return {"hello": "\x1b[2Jworld"}

    (delivery,) = ship([Strange("kitchen")])
    assert (delivery.outcome, delivery.exit_code) == ("failed", EXIT_ENVIRONMENT)
    assert "no About" in delivery.reason and delivery.reason.isprintable()


def test_devices_of_one_machine_take_turns_and_others_do_not(ship: Any) -> None:
    same, apart = Together(), Together()
    ship([FakeDevice(f"d{number}", host="one", during=same) for number in range(4)])
    ship([FakeDevice(f"d{number}", during=apart) for number in range(4)], parallel=4)
    assert (same.most, apart.most) == (1, 4)


def test_no_more_than_parallel_devices_are_worked_on_at_once(ship: Any) -> None:
    together = Together()
    ship([FakeDevice(f"d{number}", during=together) for number in range(6)], parallel=2)
    assert together.most == 2


def test_the_others_follow_when_all_canaries_switched(ship: Any) -> None:
    devices = [FakeDevice("one"), FakeDevice("two"), FakeDevice("three")]
    ship(devices[:1])
    order: list[str] = []
    for device in devices:
        device.during = lambda name=device.name: no_pause(order, name)
    found = ship(devices, canary=2)
    assert outcomes(found) == ["unchanged", "switched", "switched"]
    assert order == ["two", "three"]


async def no_pause(order: list[str], name: str) -> None:
    order.append(name)


@pytest.mark.parametrize("bad", [{"outcome": "refused"}, {"unreachable": 9}])
def test_no_other_is_touched_when_a_canary_does_not_switch(ship: Any, bad: dict[str, Any]) -> None:
    good = FakeDevice("good", manifests=["0" * 64])
    fresh, rest = FakeDevice("fresh"), FakeDevice("rest")
    found = ship([good, fresh, FakeDevice("bad", **bad), rest], canary=3)
    assert outcomes(found) == ["rolled back", "switched", "refused" if "outcome" in bad else "failed", "not tried"]
    assert rest.asked == []
    assert good.manifests == ["0" * 64]
    assert found[0].reason == "bad did not switch"
    assert "it served nothing before" in found[1].reason
    assert found[3].reason == "bad went first and did not switch"
    assert exit_code(found) == (EXIT_GATE_FAILED if "outcome" in bad else EXIT_ENVIRONMENT)


@pytest.mark.parametrize("op", ["rollback", "after rollback"])
def test_a_canary_whose_rollback_is_lost_is_rolled_back_once(ship: Any, op: str) -> None:
    good = FakeDevice("good", manifests=["0" * 64], lose=[op])
    found = ship([good, FakeDevice("bad", outcome="refused"), FakeDevice("rest")], canary=2)
    assert outcomes(found) == ["rolled back", "refused", "not tried"]
    assert good.manifests == ["0" * 64]


def test_a_canary_that_cannot_be_rolled_back_is_reported(ship: Any) -> None:
    class Stuck(FakeDevice):
        async def _rollback(self, *_: Any) -> None:
            raise DeviceError("The other slot is damaged.")

    found = ship([Stuck("stuck", manifests=["0" * 64]), FakeDevice("bad", outcome="refused"), FakeDevice("rest")], canary=2)
    assert outcomes(found) == ["switched", "refused", "not tried"]
    assert "could not be rolled back: The other slot is damaged." in found[0].reason
    assert found[0].exit_code == EXIT_ENVIRONMENT


@pytest.mark.parametrize("op", ["install", "after install"])
def test_a_canary_that_was_lost_while_it_installed_serves_what_the_others_serve(ship: Any, op: str) -> None:
    lost = FakeDevice("lost", manifests=["0" * 64], lose=[op])
    found = ship([lost, FakeDevice("rest")], canary=1, attempts=1)
    assert outcomes(found) == ["failed", "not tried"]
    assert lost.manifests[-1] == "0" * 64
    assert "It serves the same bundle as before." in found[0].reason


def test_a_device_that_was_lost_while_it_installed_may_serve_either(ship: Any) -> None:
    (lost,) = ship([FakeDevice("lost", manifests=["0" * 64], lose=["after install"])], attempts=1)
    assert lost.outcome == "failed" and "edgebert devices status lost" in lost.hint


def test_a_canary_that_serves_this_bundle_since_before_is_not_rolled_back(ship: Any, small: Path) -> None:
    class Damaged(FakeDevice):
        """Serves this bundle, damaged, beside an older one; laying it out again fails and changes nothing."""

        async def _status(self, *request: Any) -> Any:
            found = await super()._status(*request)
            slots = [slot.model_copy(update={"fault": "a file was altered"}) for slot in found.slots]
            return found.model_copy(update={"slots": tuple(slots)})

        async def _install(self, *_: Any) -> Any:
            raise DeviceError("No room.")

    identity = hash_file(small / MANIFEST)
    kitchen = Damaged("kitchen", manifests=["0" * 64, identity])
    found = ship([kitchen, FakeDevice("attic")], canary=1)
    assert outcomes(found) == ["failed", "not tried"]
    assert kitchen.manifests == ["0" * 64, identity]


def test_a_rollback_that_is_stopped_is_reported(small: Path) -> None:
    began = asyncio.Event()

    class Slow(FakeDevice):
        async def _rollback(self, *_: Any) -> None:
            began.set()
            await asyncio.Event().wait()

    devices = [Slow("slow", manifests=["0" * 64]), FakeDevice("bad", outcome="refused"), FakeDevice("rest")]
    rollout = Rollout(devices, payload_of(small), Order(wait_s=0.0, canary=2), SilentParallelProgress())

    async def stopped() -> None:
        work = asyncio.create_task(rollout.run())
        await began.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(stopped())
    assert outcomes(rollout.results) == ["interrupted", "refused", "not tried"]
    assert "devices status" in rollout.results[0].reason


def test_what_a_device_calls_its_variants_does_nothing_to_a_terminal(ship: Any) -> None:
    class Loud(FakeDevice):
        async def _install(self, *request: Any) -> Any:
            found = await super()._install(*request)
            tried = tuple(one.model_copy(update={"reason": "\x1b[2J\nall devices switched"}) for one in found.tried)
            return found.model_copy(update={"tried": tried})

    found = ship([Loud("loud", outcome="refused")])
    lines = delivery_lines(found)
    assert "\x1b" not in "".join(lines) and not any("\n" in line for line in lines)


def test_a_report_that_cannot_be_used_is_reported_and_written_nowhere(ship: Any, small: Path, tmp_path: Path) -> None:
    lying = FakeDevice("../../kitchen", report={"schema_version": 2, "entries": [], "sha256": "0"})
    (delivery,) = ship([lying], reports=tmp_path / "reports")
    assert (delivery.outcome, delivery.report, delivery.exit_code) == ("switched", None, EXIT_ENVIRONMENT)
    assert "sent a report that cannot be used" in delivery.reason
    assert list(tmp_path.rglob("*.json")) == []


def test_a_report_is_kept_under_a_name_that_stays_in_its_folder(ship: Any, small: Path, tmp_path: Path) -> None:
    report = json.loads((small / "report.json").read_text())
    names = ["kitchen", "report", "../../etc/passwd", "/etc/passwd", "..", "a" * 500, "Küche 2", "pi@host:dir"]
    (tmp_path / "reports").mkdir()
    found = ship([FakeDevice(name, report=report) for name in names], reports=tmp_path / "reports")
    written = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(written) == len(names) and {path.parent for path in written} == {tmp_path / "reports"}
    assert tmp_path / "reports" / "kitchen.json" in written
    assert tmp_path / "reports" / "report.json" not in written, "compare would read it alone"
    for delivery in found:
        assert read_report(delivery.report) == read_report(small / "report.json")


def test_a_full_disk_here_does_not_undo_what_was_switched_there(ship: Any, small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    report = json.loads((small / "report.json").read_text())
    (delivery,) = ship([FakeDevice("kitchen", report=report)], reports=tmp_path / "file")
    assert (delivery.outcome, delivery.exit_code) == ("switched", EXIT_INPUT)
    assert "cannot be written" in delivery.reason


def test_a_file_that_changes_on_the_way_is_noticed(small: Path, tmp_path: Path, ship: Any) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "bundle"))
    payload = payload_of(folder)
    (folder / "onnx" / "model_quantized.onnx").write_bytes(b"short")
    (delivery,) = ship([FakeDevice("kitchen")], payload)
    assert (delivery.outcome, delivery.exit_code) == ("failed", EXIT_INPUT)
    assert "became shorter" in delivery.reason
