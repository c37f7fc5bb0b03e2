"""A process that is killed, or a disk that fills up, at any call to the system: the device serves one bundle, whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import agents
import pytest
from agents import files_of, send, tree
from bundles import fill, renamed, small_bundle

from edgebert.bundle.device_folder import MANIFEST, MARKER, Root, SlotName
from edgebert.core.store import hash_file
from edgebert.devices.agent.lock import at_work
from edgebert.devices.agent.switch import idle_slot, recover
from edgebert.errors import DeviceError

SCRIPT = Path(agents.__file__).with_name("broken_off.py")


@pytest.fixture(scope="module")
def bundles(model_template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three bundles. Do not write into them."""
    folder, first = tmp_path_factory.mktemp("bundles"), small_bundle(model_template)
    return [first, renamed(first, folder / "second", "second"), renamed(first, folder / "third", "third")]


def made_root(folder: Path, *slots: Path, arrived: Path) -> Path:
    """A root with these bundles in its slots, the first of which serves, and all contents of another that arrived."""
    root = Root(folder)
    with at_work(root, "tests"):
        pass
    names: tuple[SlotName, ...] = ("a", "b")
    for name, bundle in zip(names, slots, strict=False):
        fill(root, name, bundle)
    if slots:
        root.current.symlink_to("slots/a")
    send(folder, arrived)
    return folder


def broken_off(
    template: Path, bundle: Path, *, how: str, op: str = "install", again: int = 0, finish_every: int = 1
) -> list[Any]:
    """The outcome of breaking off at each call to the system, in their order. In memory if possible."""
    request = {"op": "install", "device": "attic", "files": files_of(bundle)}
    job = {"template": str(template), "request": request, "how": how, "op": op, "again": again, "finish_every": finish_every}
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as place:
        command = [sys.executable, SCRIPT, json.dumps({**job, "place": place})]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def settled(served: str, **slots: Path) -> dict[str, str]:
    """Expected content of slots and link when no exchange is under way."""
    found = {"current": f"-> slots/{served}"} if served else {}
    for name, bundle in slots.items():
        found |= {f"slots/{name}/{file}": content for file, content in tree(bundle).items()}
        found[f"slots/{name}.json"] = hash_file(bundle / MANIFEST)
    return found


def check(found: list[Any], old: Path | None, new: Path, before: dict[str, str], after: dict[str, str]) -> None:
    """Each time the old bundle served, with both slots as they were, up to one call; from then on the new one."""
    assert len(found) > 80
    states = ["old" if item["settled"] == before else "new" if item["settled"] == after else item for item in found]
    assert states == sorted(states, key=["old", "new"].index)
    assert set(states) == {"old", "new"}
    contents = {"old": tree(old) if old else None, "new": tree(new)}
    for item, state in zip(found, states, strict=True):
        assert item["served"] == contents[state], item["call"]
        assert item.get("finished", after) == after, item["call"]
    assert any("finished" in item for item in found)
    first_new = found[states.index("new") - 1]["call"].split()[1]
    assert first_new == "replace", "the rename of the link is the switch"


@pytest.mark.slow
def test_a_kill_at_any_call_leaves_one_whole_bundle_and_both_slots(bundles: list[Path], tmp_path: Path) -> None:
    first, second, third = bundles
    template = made_root(tmp_path / "template", first, second, arrived=third)
    found = broken_off(template, third, how="kill", again=40)
    check(found, first, third, settled("a", a=first, b=second), settled("b", a=first, b=third))


@pytest.mark.slow
def test_a_kill_at_any_call_of_the_first_installation_leaves_nothing_or_all(bundles: list[Path], tmp_path: Path) -> None:
    template = made_root(tmp_path / "template", arrived=bundles[0])
    (template / MARKER).unlink()  # as a setup leaves the folder
    found = broken_off(template, bundles[0], how="kill", finish_every=5)
    check(found, None, bundles[0], {}, settled("a", a=bundles[0]))


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_call_leaves_one_whole_bundle(bundles: list[Path], tmp_path: Path) -> None:
    first, _, third = bundles
    template = made_root(tmp_path / "template", first, arrived=third)
    found = broken_off(template, third, how="fail", finish_every=5)
    states = [item["settled"] for item in found]
    before, after = settled("a", a=first), settled("b", a=first, b=third)
    assert len(found) > 80 and before in states and after in states
    for item in found:
        assert item["settled"] in (before, after) and item.get("finished", after) == after, item["call"]
        assert item["served"] in (tree(first), tree(third)), item["call"]


@pytest.mark.slow
def test_a_kill_at_any_call_of_a_rollback_leaves_one_whole_bundle(bundles: list[Path], tmp_path: Path) -> None:
    first, second, _ = bundles
    template = made_root(tmp_path / "template", first, second, arrived=second)
    found = broken_off(template, second, how="kill", op="rollback", finish_every=100)
    states = [item["settled"]["current"] for item in found]
    assert states == sorted(states) and set(states) == {"-> slots/a", "-> slots/b"}
    for item in found:
        served = item["settled"]["current"][-1]
        assert item["settled"] == settled(served, a=first, b=second)
        assert item["served"] == tree(first if served == "a" else second)


def test_the_slot_that_the_link_names_is_never_filled(tmp_path: Path) -> None:
    root = Root(tmp_path)
    assert idle_slot(root) == "a"
    root.slot("a").mkdir(parents=True)
    assert idle_slot(root) == "b"  # it was filled, and its link is lost
    for name, idle in (("a", "b"), ("b", "a")):
        root.current.unlink(missing_ok=True)
        root.current.symlink_to(f"slots/{name}")  # a slot b that is not there makes no difference
        assert idle_slot(root) == idle


@pytest.mark.parametrize("journal", ["", "{}", '{"slot": "../x", "had": {"bundle": true, "record": true}}', "[" * 100_000])
@pytest.mark.parametrize("is_switched", [False, True])
def test_a_journal_that_is_damaged_is_made_up_for_by_the_link(tmp_path: Path, journal: str, is_switched: bool) -> None:
    root = Root(tmp_path)
    for name in ("a", "b", "b.old"):
        (root.slots / name).mkdir(parents=True)
        (root.slots / name / "is").write_text(name)
        (root.slots / f"{name}.json").write_text(name)
    root.current.symlink_to("slots/b" if is_switched else "slots/a")
    root.journal.write_text(journal)
    recover(root)
    kept = "b" if is_switched else "b.old"
    assert {file.name for file in root.slots.iterdir()} == {"a", "b", "a.json", "b.json"}
    assert (root.slot("b") / "is").read_text() == root.record("b").read_text() == kept
    assert (root.slot("a") / "is").read_text() == "a"
    assert not root.journal.exists()


def test_a_current_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    root = Root(tmp_path)
    for target in ("/etc", "slots/c", "../slots/a"):
        root.current.unlink(missing_ok=True)
        root.current.symlink_to(target)
        with pytest.raises(DeviceError, match="no link to a slot"):
            root.linked()
    root.current.unlink()
    root.current.mkdir()
    with pytest.raises(DeviceError, match="no link to a slot"):
        root.serving()
