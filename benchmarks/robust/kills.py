"""Kills and cuts of compress, of installations and of switches: nothing is lost, and the end is the same as undisturbed.

A kill is SIGKILL to a run and its processes, at a seeded moment or before a seeded change of a file. A cut is a kill, and then
what a power cut may do: a file that the run had written and not synced is shortened, emptied, zeroed or gone. Rot is a kill,
and then a bit of a finished artifact in the store is flipped. A full disk is a change of a file that fails.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robust.bounded import BreakOff, Outcome, bounded
from robust.tiny import command

LIMIT_S = 600.0


@dataclass
class Tally:
    """What was counted of one kind of work."""

    kills: int = 0
    cuts: int = 0
    rot: int = 0
    full: int = 0
    ends: int = 0
    """Runs that went to their end afterwards, each compared with the undisturbed one."""
    wrong: list[str] = field(default_factory=list)
    """What was lost or different."""

    @property
    def all(self) -> int:
        """Everything that broke a run off."""
        return self.kills + self.cuts + self.rot + self.full


def damage(files: tuple[Path, ...], draw: random.Random) -> bool:
    """Does to some of the files what a power cut may do. Returns whether there was one."""
    for file in draw.sample(files, min(len(files), draw.randint(1, 3))):
        size = file.stat().st_size
        how = draw.choice(("short", "empty", "zeros", "gone"))
        if how == "gone":
            file.unlink()
        elif how == "zeros":
            file.write_bytes(bytes(size))
        else:
            os.truncate(file, draw.randrange(max(size, 1)) if how == "short" else 0)
    return bool(files)


def rot(store: Path, draw: random.Random) -> bool:
    """Flips a bit of a file of a finished artifact. Returns whether there was one."""
    files = sorted(file for file in store.glob("artifacts/*/**/*") if file.is_file() and file.stat().st_size)
    if not files:
        return False
    file = draw.choice(files)
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    mode = file.stat().st_mode
    file.chmod(0o644)
    file.write_bytes(content)
    file.chmod(mode)
    return True


def hashes(out: Path) -> dict[str, str]:
    """Step -> sha256 of its artifact, and graph of the bundle -> sha256 of what lies there."""
    from edgebert.core.store import hash_file

    steps = {step["step"]: step["sha256"] for step in json.loads((out / "run.json").read_text())["steps"]}
    return steps | {str(file.relative_to(out)): hash_file(file) for file in sorted(out.glob("bundle/onnx/*.onnx"))}


def compress_killed(workspace: Path, count: int, draw: random.Random) -> Tally:
    """Breaks off `edgebert compress` so often, each time going on with what the last one left."""
    work = command("compress", "recipe.yaml", "--store", "store", "--out", "out", "--quiet")
    calm = bounded(work, workspace, limit=LIMIT_S)
    if calm.code != 0:
        raise SystemExit(f"the undisturbed run failed: {calm.err}")
    wanted, tally = hashes(workspace / "out"), Tally()
    _drop(workspace)
    while tally.all < count:
        broken = _drawn(calm, draw)
        outcome = bounded(work, workspace, limit=LIMIT_S, broken=broken)
        if _ended(outcome, workspace, wanted, tally):
            _drop(workspace)
            continue
        _after(outcome, broken, tally, draw, lambda: rot(workspace / "store", draw))
    _ended(bounded(work, workspace, limit=LIMIT_S), workspace, wanted, tally, must=True)
    _drop(workspace)
    return tally


def _drop(workspace: Path) -> None:
    for name in ("store", "out"):
        shutil.rmtree(workspace / name, ignore_errors=True)


def _drawn(calm: Outcome, draw: random.Random) -> BreakOff:
    if draw.random() < 0.5:
        return BreakOff(seconds=draw.uniform(0.02, calm.seconds))
    return BreakOff(change=draw.randint(1, max(calm.changes, 1)), how=draw.choice(("kill", "kill", "kill", "full")))


def _ended(outcome: Outcome, workspace: Path, wanted: dict[str, str], tally: Tally, *, must: bool = False) -> bool:
    """Whether the run went to its end; then its artifacts are compared."""
    if outcome.code != 0:
        if must or (outcome.code is not None and outcome.code > 0 and outcome.code != 3):
            tally.wrong.append(f"compress ended with {outcome.code}: {outcome.err.strip()[-300:]}")
        if (workspace / "out").exists() and not (workspace / "out" / "run.json").is_file():
            tally.wrong.append("a run that was broken off left half a run folder")
        return False
    tally.ends += 1
    found = hashes(workspace / "out")
    tally.wrong += [f"{name} is another one after kills" for name in wanted if found.get(name) != wanted[name]]
    return True


def _after(outcome: Outcome, broken: BreakOff, tally: Tally, draw: random.Random, rotten: Callable[[], bool]) -> None:
    """Counts what broke the run off, and now and then does what a power cut or a bad disk would do besides."""
    if broken.how == "full":
        tally.full += 1
        return
    turn = draw.random()
    if turn < 0.4 and damage(outcome.unsynced, draw):
        tally.cuts += 1
    elif turn > 0.85 and rotten():
        tally.rot += 1
    else:
        tally.kills += 1


def agent(request: dict[str, Any], body: bytes = b"", folder: Path = Path()) -> Callable[[], object]:
    """The agent of a device answers one request; a trial that passes stands in for measuring."""

    def work() -> object:
        from edgebert.devices.agent import agent as module
        from edgebert.devices.agent import install

        install.hold_trial = _passing  # type: ignore[assignment]
        read, write = os.pipe()
        if os.fork() == 0:  # the workstation's end of the pipe
            os.close(read)
            with os.fdopen(write, "wb") as stream:
                stream.write(json.dumps({"root": str(folder), **request}).encode() + b"\n" + body)
            os._exit(0)
        os.close(write)
        os.dup2(read, 0)
        return module.main()

    return work


def _passing(folder: Path, manifest: Any, *_: Any) -> Any:
    from edgebert.devices.agent.protocol import Tried
    from edgebert.devices.agent.trial import VariantOutcome
    from edgebert.report.file import read_report

    best = next(item for item in manifest.variants if item.role == "candidate")
    tried = Tried(variant=best.name, self_test="ok", p50_ms=1.0, p90_ms=None, passed=True, reason="stands in")
    return VariantOutcome((tried,), best, 1.0, read_report(folder / "report.json"))


def listing(bundle: Path) -> list[dict[str, Any]]:
    """The files of a bundle as requests name them."""
    from edgebert.core.store import hash_file

    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    return [{"path": str(file.relative_to(bundle)), "sha256": hash_file(file), "size": file.stat().st_size} for file in files]


def value(outcome: Outcome) -> dict[str, Any]:
    """The result that an agent wrote.

    Raises:
        ValueError: it wrote none.
    """
    last = json.loads((outcome.out.strip().splitlines() or ["{}"])[-1])
    if last.get("event") != "result":
        raise ValueError(f"{last} {outcome.err[-300:]}")
    return dict(last["value"])


class Device:
    """A device's folder and the two bundles that go there in turn."""

    def __init__(self, folder: Path, bundles: list[Path]) -> None:
        self.folder, self.bundles = folder, bundles
        self.whole = [self._content(bundle) for bundle in bundles]

    @staticmethod
    def _content(bundle: Path) -> dict[str, str]:
        return {item["path"]: item["sha256"] for item in listing(bundle)}

    def ask(self, request: dict[str, Any], body: bytes = b"", broken: BreakOff | None = None) -> Outcome:
        """Sends a request to a fresh agent."""
        work = agent(request, body, self.folder)
        return bounded(work, self.folder.parent, limit=60, broken=broken)

    def send(self, number: int, broken: BreakOff | None = None) -> Outcome:
        """Sends what the device lacks of a bundle."""
        bundle, files = self.bundles[number], listing(self.bundles[number])
        there = value(self.ask({"op": "have", "files": files}))["bytes_there"]
        pieces, body = [], b""
        for item in {item["sha256"]: item for item in files}.values():
            offset = there.get(item["sha256"], 0)
            if item["sha256"] in there and offset == item["size"]:
                continue
            pieces.append({"sha256": item["sha256"], "size": item["size"], "offset": offset})
            body += (bundle / item["path"]).read_bytes()[offset:]
        return self.ask({"op": "receive", "pieces": pieces}, body, broken)

    def install(self, number: int, broken: BreakOff | None = None) -> Outcome:
        """Installs a bundle whose files arrived."""
        return self.ask({"op": "install", "device": "bench", "files": listing(self.bundles[number])}, broken=broken)

    def serving(self) -> int | None:
        """Which bundle a load finds now, whole. None: none, or one that is not whole."""
        folder = self.folder / "current"
        if not folder.is_dir():
            return None
        found = self._content(folder.resolve())
        return self.whole.index(found) if found in self.whole else None


def installs_killed(folder: Path, bundles: list[Path], count: int, draw: random.Random) -> tuple[Tally, Tally]:
    """Breaks off installations and switches; after each the device must serve one of the two bundles, whole."""
    folder.mkdir()
    device = Device(folder / "device", bundles)
    installs, switches = Tally(), Tally()
    _install(device, 0)
    calm = _install(device, 1)
    back = device.ask({"op": "rollback"})
    while installs.all < count or switches.all < count:
        before = device.serving()
        if before is None:
            installs.wrong.append("the device serves no whole bundle")
            break
        if installs.all < count and (switches.all >= count or draw.random() < 0.5):
            _broken_install(device, 1 - before, calm, installs, draw)
        else:
            _broken_switch(device, before, back, switches, draw)
    return installs, switches


def _install(device: Device, number: int) -> Outcome:
    value(device.send(number))
    done = device.install(number)
    if value(done)["outcome"] != "switched" or device.serving() != number:
        raise SystemExit(f"an undisturbed installation failed: {done.out} {done.err}")
    return done


def _broken_install(device: Device, number: int, calm: Outcome, tally: Tally, draw: random.Random) -> None:
    sending = draw.random() < 0.3
    broken = BreakOff(change=draw.randint(1, max(calm.changes, 1)), how=draw.choice(("kill", "kill", "kill", "full")))
    if sending:
        outcome = device.send(number, broken)
    else:
        device.send(number)
        outcome = device.install(number, broken)
    _settle(device, outcome, broken, tally, draw, (number, 1 - number))
    if draw.random() < 0.5:
        tally.ends += 1
        try:
            value(device.send(number))
            if value(device.install(number))["outcome"] not in ("switched", "unchanged") or device.serving() != number:
                tally.wrong.append("the installation that followed did not end with its bundle")
        except ValueError as error:
            tally.wrong.append(f"the installation that followed failed: {error}")


def _broken_switch(device: Device, before: int, calm: Outcome, tally: Tally, draw: random.Random) -> None:
    broken = BreakOff(change=draw.randint(1, max(calm.changes, 1)), how=draw.choice(("kill", "kill", "full")))
    outcome = device.ask({"op": "rollback"}, broken=broken)
    _settle(device, outcome, broken, tally, draw, (before, 1 - before))
    if draw.random() < 0.3:
        tally.ends += 1
        serves = device.serving()
        try:
            value(device.ask({"op": "rollback"}))
        except ValueError as error:
            tally.wrong.append(f"the switch that followed failed: {error}")
        if serves is not None and device.serving() not in (0, 1):
            tally.wrong.append("the switch that followed left no whole bundle")


def _settle(
    device: Device, outcome: Outcome, broken: BreakOff, tally: Tally, draw: random.Random, allowed: tuple[int, ...]
) -> None:
    """Counts, and looks at what serves: at once, and after the next request has begun."""
    if outcome.code == 0 and broken.how == "kill":
        tally.kills += 1  # it was done before that change came
    else:
        _after(outcome, broken, tally, draw, lambda: False)
    now = device.serving()
    later = device.ask({"op": "status"})
    for serves in (now, device.serving()):
        if serves not in allowed:
            tally.wrong.append(f"{broken} left no whole bundle to serve: {outcome.err[-200:]}")
    if later.code != 0:
        tally.wrong.append(f"the device does not answer after {broken}: {later.out[-200:]}")
