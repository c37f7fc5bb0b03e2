"""Receiving contents: what counts as held, what is refused, and what is kept when a transfer or the disk ends."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from agents import Said, files_of, pieces_of, raw, send, tree
from agents import ask as ask_process

from edgebert.bundle.device_folder import Root
from edgebert.devices.agent import incoming
from edgebert.devices.agent.agent import read_request, serve
from edgebert.devices.agent.contents import check_files
from edgebert.devices.agent.lock import at_work
from edgebert.devices.agent.protocol import Have, RequestedFile
from edgebert.devices.agent.wire import EventLines, StandardInput
from edgebert.errors import BundleError, DeviceError

MANIFEST_FILE = {"path": "edgebert.json", "sha256": "1" * 64, "size": 10}


def ask(root: Path, op: str, body: bytes = b"", **fields: Any) -> Said:
    """One request to an agent in this process, which takes a hundredth of the time of one of its own."""
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps({"op": op, "root": str(root), **fields}).encode() + b"\n" + body)
        file.seek(0)
        lines: list[str] = []
        code = serve(StandardInput(file.fileno()), EventLines(lines.append))
    return Said([json.loads(line) for line in lines], code, "")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def piece(content: bytes, offset: int = 0) -> dict[str, Any]:
    return {"sha256": sha256(content), "size": len(content), "offset": offset}


def wanted(*contents: bytes) -> list[dict[str, Any]]:
    """Files of a bundle with these contents, the first as its manifest."""
    names = ["edgebert.json", *(f"file-{number}" for number in range(1, len(contents)))]
    return [
        {"path": name, "sha256": sha256(content), "size": len(content)} for name, content in zip(names, contents, strict=True)
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that is not there yet."""
    return tmp_path / "device"


def test_contents_are_received_and_then_held(root: Path) -> None:
    first, second, empty = b"first" * 50_000, b"second", b""
    said = ask(root, "receive", first + second, pieces=[piece(first), piece(second), piece(empty)])
    assert said.value == {}
    received = [event["sha256"] for event in said.events if event["event"] == "received"]
    assert received == [sha256(first), sha256(second), sha256(empty)]
    held = ask(root, "have", files=wanted(first, second, empty, b"absent")).value["bytes_there"]
    assert held == {sha256(first): len(first), sha256(second): 6, sha256(empty): 0}


def test_a_body_that_is_cut_goes_on_where_it_ended(root: Path) -> None:
    first, second = os.urandom(300_000), os.urandom(200_000)
    for cut in (0, 299_999, 300_000, 300_001):
        device = root.with_name(f"cut-{cut}")
        said = ask(device, "receive", (first + second)[:cut], pieces=[piece(first), piece(second)])
        assert said.failure["kind"] == "DeviceLost" and said.code == 3
        there = ask(device, "have", files=wanted(first, second)).value["bytes_there"]
        assert sum(there.values()) == cut
        rest = [piece(content, there.get(sha256(content), 0)) for content in (first, second)]
        rest = [item for item in rest if item["offset"] < item["size"]]
        assert ask(device, "receive", (first + second)[cut:], pieces=rest).value == {}
        held = ask(device, "have", files=wanted(first, second)).value["bytes_there"]
        assert held == {sha256(first): 300_000, sha256(second): 200_000}


def test_a_content_that_arrives_altered_is_removed_and_the_others_stay(root: Path) -> None:
    first, second = b"first" * 1000, b"second" * 1000
    altered = b"F" + first[1:]
    said = ask(root, "receive", altered + second, pieces=[piece(first), piece(second)])
    assert said.failure["kind"] == "DeviceError" and sha256(first)[:12] in said.failure["message"]
    assert any("another content" in event["line"] for event in said.events if event["event"] == "note")
    assert ask(root, "have", files=wanted(first, second)).value["bytes_there"] == {sha256(second): len(second)}
    assert not list((root / "incoming").glob("*.part"))


def test_more_bytes_than_were_announced_are_refused_and_what_is_whole_stays(root: Path) -> None:
    said = ask(root, "receive", b"contentmore", pieces=[piece(b"content")])
    assert said.failure["kind"] == "DeviceError" and "More bytes" in said.failure["message"]
    assert ask(root, "have", files=wanted(b"content")).value["bytes_there"] == {sha256(b"content"): 7}


def test_a_part_is_written_on_at_its_true_length(root: Path) -> None:
    content, other = b"0123456789", b"other"
    ask(root, "receive", content[:4], pieces=[piece(content)])
    ahead = ask(root, "receive", content[6:] + other, pieces=[piece(content, 6), piece(other)])
    assert "4 bytes of it are here" in ahead.failure["message"]
    held = {sha256(content): 4, sha256(other): 5}
    assert ask(root, "have", files=wanted(content, other)).value["bytes_there"] == held
    behind = ask(root, "receive", content[2:], pieces=[piece(content, 2)])  # what is there already may come again
    assert behind.value == {}
    assert ask(root, "have", files=wanted(content)).value["bytes_there"] == {sha256(content): 10}


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"": b"content"}, 7),
        ({"": b"CONTENT"}, None),
        ({"": b"conten"}, None),
        ({".part": b"cont"}, 4),
        ({".part": b"content"}, 7),
        ({".part": b"CONTENT"}, None),
        ({".part": b"content and more"}, None),
        ({".part": b""}, None),
        ({"": b"CONTENT", ".part": b"con"}, 3),
    ],
)
def test_only_what_is_really_there_counts_as_held(root: Path, there: dict[str, bytes], expected: int | None) -> None:
    (root / "incoming").mkdir(parents=True)
    for ending, content in there.items():
        (root / "incoming" / f"{sha256(b'content')}{ending}").write_bytes(content)
    asked = Have.model_validate({"op": "have", "files": wanted(b"content")})
    with at_work(Root(root), "tests"):
        held = incoming.have(Root(root), asked).bytes_there
    assert held == ({} if expected is None else {sha256(b"content"): expected})
    left = {file.name for file in (root / "incoming").iterdir()}
    assert left == ({sha256(b"content") + ("" if expected == 7 else ".part")} if expected else set())


def test_a_link_instead_of_a_content_is_not_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"conte")
    ask(root, "have", files=wanted(b"x"))
    for ending in ("", ".part"):
        (root / "incoming" / f"{sha256(b'content')}{ending}").symlink_to(outside)
    assert ask(root, "have", files=wanted(b"content")).value["bytes_there"] == {}
    assert ask(root, "receive", b"content", pieces=[piece(b"content")]).value == {}
    assert outside.read_bytes() == b"conte"


TRICKS = [
    pytest.param([{"path": "../x"}], "leaves the bundle", id="above"),
    pytest.param([{"path": "/etc/x"}], "leaves the bundle", id="absolute"),
    pytest.param([{"path": "a/../../x"}], "leaves the bundle", id="above-by-way"),
    pytest.param([{"path": "a\\x"}], "leaves the bundle", id="backslash"),
    pytest.param([{"path": "a\0x"}], "plain path", id="nul"),
    pytest.param([{"path": ""}], "leaves the bundle", id="empty"),
    pytest.param([{"path": "."}], "plain path", id="dot"),
    pytest.param([{"path": "./x"}], "same file everywhere", id="dot-slash"),
    pytest.param([{"path": "a//x"}], "same file everywhere", id="two-slashes"),
    pytest.param([{"path": "x/"}], "same file everywhere", id="slash-at-its-end"),
    pytest.param([{"path": "a\u202ex"}], "plain path", id="not-printable"),
    pytest.param([{"path": "a/" * 600 + "x"}], "plain path", id="long"),
    pytest.param([{"path": "x"}, {"path": "x"}], "named twice", id="twice"),
    pytest.param([{"path": "x"}, {"path": "x", "sha256": "2" * 64}], "named twice", id="two-contents"),
    pytest.param([{"path": "x"}, {"path": "x/y"}], "as the folder", id="file-and-folder"),
    pytest.param([{"path": "x", "size": 11}, {"path": "y", "size": 12}], "bytes", id="two-sizes"),
    pytest.param([{"path": f"x{number}"} for number in range(5000)], "more than a bundle has", id="many"),
]


@pytest.mark.parametrize(("files", "says"), TRICKS)
def test_tricks_with_paths_are_refused(files: list[dict[str, Any]], says: str) -> None:
    named = [MANIFEST_FILE, *({"sha256": "3" * 64, "size": 1, **item} for item in files)]
    with pytest.raises(BundleError, match=says):
        check_files([RequestedFile.model_validate(item) for item in named])


@pytest.mark.parametrize("op", ["have", "install"])
def test_a_trick_changes_nothing_on_the_device(root: Path, op: str) -> None:
    ask(root, "have", files=[MANIFEST_FILE])
    before = tree(root)
    named = [MANIFEST_FILE, {"path": "../x", "sha256": "3" * 64, "size": 1}]
    said = ask(root, op, files=named, **({"device": "attic"} if op == "install" else {}))
    assert said.failure["kind"] == "BundleError" and said.code == 2
    assert {**tree(root), "lock": ""} == {**before, "lock": ""}


def test_files_without_a_manifest_are_no_bundle(root: Path) -> None:
    said = ask(root, "have", files=[{"path": "x", "sha256": "1" * 64, "size": 1}])
    assert "edgebert.json is not among the files" in said.failure["message"]


def test_more_than_the_disk_holds_is_refused_before_a_byte_is_written(root: Path) -> None:
    large = {"sha256": "4" * 64, "size": 10**18, "offset": 0}
    said = ask(root, "receive", b"x" * 1000, pieces=[large])
    assert said.failure["kind"] == "StoreError" and str(root) in said.failure["message"]
    assert "are missing" in said.failure["message"]
    assert list((root / "incoming").iterdir()) == []


def test_a_disk_that_fills_up_is_reported_in_numbers_and_what_arrived_is_kept(root: Path, tmp_path: Path) -> None:
    limited = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
runpy.run_module("edgebert.devices.agent.agent", run_name="__main__")
"""
    small, large = os.urandom(1000), os.urandom(300_000)
    body, pieces = small + large, [piece(small), piece(large)]
    said = ask_process(root, "receive", body, pieces=pieces, command=(sys.executable, "-P", "-c", limited))
    assert said.failure["kind"] == "StoreError"
    assert str(root) in said.failure["message"] and "is full: at least" in said.failure["message"]
    there = ask(root, "have", files=wanted(small, large)).value["bytes_there"]
    assert there[sha256(small)] == 1000 and 0 < there[sha256(large)] <= 100_000
    rest = there[sha256(large)]
    assert ask(root, "receive", large[rest:], pieces=[piece(large, rest)]).value == {}


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A disk of 20 MB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_keeps_what_arrived_and_makes_room_by_dropping_other_contents(small_disk: Path) -> None:
    root = small_disk / "device"
    old, new, third = os.urandom(1_000_000), os.urandom(2_500_000), os.urandom(1_000_000)
    assert ask(root, "receive", old + third, pieces=[piece(old), piece(third)]).value == {}
    said = ask(root, "receive", new, pieces=[piece(new)])
    assert "are missing" in said.failure["message"]
    assert ask(root, "have", files=wanted(old, third)).value["bytes_there"] == {sha256(old): 10**6, sha256(third): 10**6}
    held = ask(root, "have", files=wanted(old, new)).value["bytes_there"]  # there is no room for new: third is dropped
    assert held == {sha256(old): 10**6}
    assert ask(root, "have", files=wanted(third)).value["bytes_there"] == {}
    assert ask(root, "receive", new, pieces=[piece(new)]).value == {}


BAD_REQUESTS = [
    pytest.param(b"\n", id="empty"),
    pytest.param(b"{}\n", id="no-op"),
    pytest.param(b"hello\n", id="no-json"),
    pytest.param(b'{"op": "reboot"}\n', id="unknown-op"),
    pytest.param(b'{"op": "hello", "colour": 1}\n', id="unknown-key"),
    pytest.param(b'{"op": "receive", "pieces": [{"sha256": "../../x", "size": 1}]}\n', id="no-hash"),
    pytest.param(b'{"op": "receive", "pieces": [{"sha256": "' + b"1" * 64 + b'", "size": -1}]}\n', id="negative"),
    pytest.param(b"\xff\xfe\n", id="no-utf-8"),
    pytest.param(b"[" * 100_000 + b"\n", id="deep"),
    pytest.param(b'{"op": "hello"', id="cut"),
]


@pytest.mark.parametrize("line", BAD_REQUESTS)
def test_a_line_that_is_no_request_is_refused_in_one_line(line: bytes) -> None:
    with pytest.raises(DeviceError) as caught:
        read_request(line)
    assert len(caught.value.message) < 300 and "\n" not in caught.value.message


@pytest.mark.parametrize(
    "sent", [b"hello\n", b"x" * (17 << 20) + b"\n", b'{"op": "hello"', b""], ids=["no-json", "endless", "cut", "none"]
)
def test_the_agent_answers_a_bad_request_with_one_event(sent: bytes) -> None:
    said = raw(sent)
    assert said.failure["kind"] in ("DeviceError", "DeviceLost")
    assert len(said.events) == 1 and said.code == 3 and said.err == ""


def test_pieces_that_contradict_each_other_are_refused(root: Path) -> None:
    for pieces in ([piece(b"x"), piece(b"x")], [piece(b"x", 2)]):
        assert ask(root, "receive", b"xx", pieces=pieces).failure["kind"] == "DeviceError"


def test_a_second_bundle_needs_only_what_the_first_has_not(root: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for name, content in (("edgebert.json", b"{}"), ("a", b"a" * 1000), ("b", b"b" * 1000), ("c", b"b" * 1000)):
        (bundle / name).write_bytes(content)
    pieces, body = pieces_of(bundle, {})
    assert len(pieces) == 3 and len(body) == 2002  # b and c are one content
    assert send(root, bundle) == 2002
    assert send(root, bundle) == 0
    (bundle / "a").write_bytes(b"A" * 1000)
    assert send(root, bundle) == 1000
    assert json.loads((root / "edgebert-device.json").read_text()) == {"layout": 1}
    assert {item["path"] for item in files_of(bundle)} == {"edgebert.json", "a", "b", "c"}
