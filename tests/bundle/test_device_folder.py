"""The folder on a device: what may be one, who works in it, and what a load finds there."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import IMPATIENT, ask, tree
from bundles import INT8
from device_process import run_python

from edgebert.bundle.device_folder import LAYOUT, MARKER, Root, locate, resolve
from edgebert.core.store import hash_file
from edgebert.errors import BundleError, DeviceError

FILES = [{"path": "edgebert.json", "sha256": "1" * 64, "size": 10}]


def slot(root: Path, name: str = "a", *, serves: bool = True) -> Path:
    """A slot with a manifest and a record, as far as a load looks before it reads the bundle."""
    folder = root / "slots" / name
    folder.mkdir(parents=True)
    (root / MARKER).write_text(json.dumps({"layout": LAYOUT}))
    (folder / "edgebert.json").write_text("{}")
    record = {"manifest": hash_file(folder / "edgebert.json"), "variant": INT8}
    (root / "slots" / f"{name}.json").write_text(json.dumps(record))
    if serves:
        (root / "current").symlink_to(f"slots/{name}")
    return folder


def test_a_root_its_link_and_its_slot_stand_for_the_slot_and_its_variant(tmp_path: Path) -> None:
    folder = slot(tmp_path).resolve()
    (tmp_path / "by-a-link").symlink_to(tmp_path, target_is_directory=True)
    for path in (tmp_path, tmp_path / "current", folder, tmp_path / "by-a-link", tmp_path / "by-a-link" / "current"):
        assert resolve(path) == (folder, INT8)


def test_a_plain_bundle_stands_for_itself(tmp_path: Path) -> None:
    for path in (tmp_path / "slots" / "a", tmp_path, tmp_path / "not-there"):
        assert resolve(path) == (path, None)


def test_what_was_resolved_stays_when_the_link_is_switched(tmp_path: Path) -> None:
    first = resolve(slot(tmp_path) and tmp_path)
    slot(tmp_path, "b", serves=False)
    (tmp_path / "next").symlink_to("slots/b")
    (tmp_path / "next").replace(tmp_path / "current")
    assert resolve(tmp_path)[0].name == "b" and first[0].name == "a"


def test_a_root_that_serves_nothing_says_so(tmp_path: Path) -> None:
    slot(tmp_path, serves=False)
    with pytest.raises(BundleError, match="no model serves there yet"):
        resolve(tmp_path)
    (tmp_path / "current").symlink_to("slots/b")
    with pytest.raises(BundleError, match="no model serves there yet"):
        resolve(tmp_path)


@pytest.mark.parametrize("record", [None, "", "[]", "{}", '{"manifest": "' + "0" * 64 + '", "variant": "x"}'])
def test_a_slot_whose_record_is_not_of_its_bundle_does_not_load(tmp_path: Path, record: str | None) -> None:
    slot(tmp_path)
    file = tmp_path / "slots" / "a.json"
    file.unlink() if record is None else file.write_text(record)
    with pytest.raises(BundleError, match="variant that was chosen"):
        resolve(tmp_path)


def test_a_root_of_a_newer_edgebert_is_left_alone(tmp_path: Path) -> None:
    slot(tmp_path)
    (tmp_path / MARKER).write_text(json.dumps({"layout": LAYOUT + 1}))
    before = tree(tmp_path)
    with pytest.raises(DeviceError, match="newer edgebert"):
        resolve(tmp_path)
    for op, fields in (("hello", {}), ("status", {}), ("have", {"files": FILES}), ("rollback", {})):
        reply = ask(tmp_path, op, **fields)
        assert reply.failure["kind"] == "DeviceError" and "newer edgebert" in reply.failure["message"]
    assert tree(tmp_path) == before


@pytest.mark.parametrize("marker", ["", "{}", '{"layout": 0}', '{"layout": "1"}', "[1]"])
def test_a_damaged_marker_is_refused(tmp_path: Path, marker: str) -> None:
    (tmp_path / MARKER).write_text(marker)
    with pytest.raises(DeviceError, match="damaged"):
        resolve(tmp_path)


@pytest.mark.parametrize("marker", ["", "\0" * 14, "{}", "[" * 100_000])
def test_a_marker_that_is_damaged_stops_nothing_where_slots_and_link_are_whole(tmp_path: Path, marker: str) -> None:
    folder = slot(tmp_path).resolve()
    (tmp_path / MARKER).write_text(marker)
    assert resolve(tmp_path) == (folder, INT8)
    assert ask(tmp_path, "have", files=FILES).value == {"bytes_there": {}}
    assert json.loads((tmp_path / MARKER).read_text()) == {"layout": LAYOUT}


def test_a_rollback_makes_no_root(tmp_path: Path) -> None:
    reply = ask(tmp_path / "misspelt", "rollback")
    assert "Nothing serves" in reply.failure["message"]
    assert not (tmp_path / "misspelt").exists()


def test_only_its_user_can_hold_a_root_and_nothing_tells_of_a_holder_that_ended(tmp_path: Path) -> None:
    (tmp_path / "slots").mkdir()
    (tmp_path / "lock").write_text("old")
    (tmp_path / "lock").chmod(0o644)
    ask(tmp_path, "have", files=FILES)
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "lock").read_text() == ""


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    reply = ask(tmp_path, "have", files=FILES)
    assert reply.failure["kind"] == "DeviceError" and "holiday.jpg" in reply.failure["message"]
    assert tree(tmp_path) == {"holiday.jpg": hash_file(tmp_path / "holiday.jpg")}
    reply = ask(tmp_path / "holiday.jpg", "have", files=FILES)
    assert "is not a folder" in reply.failure["message"]
    reply = ask(tmp_path / "holiday.jpg" / "below", "have", files=FILES)
    assert reply.failure["kind"] in ("DeviceError", "StoreError")


def test_a_folder_where_edgebert_was_set_up_becomes_a_root(tmp_path: Path) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    assert ask(tmp_path, "have", files=FILES).value == {"bytes_there": {}}
    assert json.loads((tmp_path / MARKER).read_text()) == {"layout": LAYOUT}


def test_a_root_is_counted_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    home = tmp_path.resolve()
    assert locate("edgebert").folder == locate("~/edgebert").folder == locate("./x/../edgebert").folder == home / "edgebert"
    assert locate("/srv/edgebert").folder == Path("/srv/edgebert")
    for text in ("~nobody-of-that-name/x", "a\0b", "x" * 5000):
        with pytest.raises(DeviceError, match="cannot be the folder"):
            locate(text)


def test_a_root_that_is_not_there_serves_nothing_and_is_not_made_by_looking(tmp_path: Path) -> None:
    root = tmp_path / "device"
    assert ask(root, "hello").value["serving"] is None
    assert ask(root, "status").value == {"root": str(root.resolve()), "serving": None, "slots": []}
    assert not root.exists()


def test_slots_that_cannot_serve_are_shown_with_their_fault(tmp_path: Path) -> None:
    slot(tmp_path)
    (tmp_path / "slots" / "b").mkdir()
    status = ask(tmp_path, "status").value
    assert status["serving"] == "a"
    assert [item["slot"] for item in status["slots"]] == ["a", "b"]
    assert "damaged" in status["slots"][0]["fault"] and "no record" in status["slots"][1]["fault"]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that cannot be written to, where this user may mount one; else one without the right to."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_root_that_cannot_be_written_is_an_error(read_only: Path) -> None:
    reply = ask(read_only / "device", "have", files=FILES)
    assert reply.failure["kind"] == "StoreError" and str(read_only) in reply.failure["message"]
    assert ask(read_only / "device", "status").value["serving"] is None


def test_two_agents_do_not_work_in_one_root(tmp_path: Path) -> None:
    root = Root(tmp_path / "device")
    ask(root.folder, "have", files=FILES)
    command = (sys.executable, "-P", "-c", IMPATIENT)
    with root.lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(json.dumps({"pid": 4242, "doing": "installs a bundle for attic"}))
        held.truncate()
        held.flush()
        reply = ask(root.folder, "have", files=FILES, command=command)
        assert reply.failure["kind"] == "DeviceError"
        assert "process 4242, installs a bundle for attic" in reply.failure["message"]
        held.seek(0)
        held.truncate()
        assert "does not say" in ask(root.folder, "have", files=FILES, command=command).failure["message"]
        assert ask(root.folder, "status").value["serving"] is None  # looking needs no lock
    assert ask(root.folder, "have", files=FILES, command=command).value == {"bytes_there": {}}


def test_a_file_system_without_hard_links_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgebert.devices.agent.install import lay_out
    from edgebert.devices.agent.protocol import RequestedFile

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    root = Root(tmp_path)
    root.incoming.mkdir()
    root.staging.mkdir()
    (tmp_path / "content").write_bytes(b"content")
    sha256 = hash_file(tmp_path / "content")
    shutil.copyfile(tmp_path / "content", root.incoming / sha256)
    monkeypatch.setattr(os, "link", refuse)
    lay_out(root, {"a/b": RequestedFile(path="a/b", sha256=sha256, size=7)}, root.staging / "bundle")
    placed = root.staging / "bundle" / "a" / "b"
    assert placed.read_bytes() == b"content" and placed.stat().st_mode & 0o777 == 0o444 and placed.stat().st_nlink == 1


def test_contents_that_nobody_used_go_with_the_second_installation_after_them(tmp_path: Path) -> None:
    from edgebert.devices.agent.incoming import clear

    root = Root(tmp_path)
    root.incoming.mkdir()
    for name in ("used", "left", "growing.part"):
        (root.incoming / name).write_bytes(b"x")
    clear(root, {"used"})
    assert {file.name for file in root.incoming.iterdir()} == {"left", "growing.part", "left.json"}
    (root.incoming / "growing.part").write_bytes(b"xx")
    clear(root, set())
    assert {file.name for file in root.incoming.iterdir()} == {"growing.part", "left.json"}
    clear(root, set())
    assert {file.name for file in root.incoming.iterdir()} == {"left.json"}


def test_resolving_imports_next_to_nothing(tmp_path: Path) -> None:
    slot(tmp_path)
    script = """
import sys
from pathlib import Path
from edgebert.bundle.device_folder import resolve
resolve(Path(sys.argv[1]))
print(*sys.modules)
"""
    done = run_python(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not {"pydantic", "numpy", "edgebert.devices.agent.protocol"} & set(done.stdout.split())
