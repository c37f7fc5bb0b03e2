"""The commands: ship, rollback and devices status, with folders of this machine."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundles import small_bundle, with_gates, with_labels, with_selected_alone
from processes import wait_for
from strange_python import killed_at

import edgebert
from edgebert.devices.transport.channel import AGENT
from edgebert.errors import EXIT_ENVIRONMENT, EXIT_GATE_FAILED, EXIT_INPUT, EXIT_INTERRUPTED
from edgebert.report.file import read_report
from edgebert.report.gates import Gate

QUICK = ("--rounds", 1, "--queries", 4)
OLD, NEW = {"negative", "positive"}, {"minus", "plus"}
MEANT = ("--replace", "labels")
"""The new bundle has other labels than the old one."""


@pytest.fixture(scope="module")
def made(model_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles `old` and `new`, which answer with other words; do not write into it."""
    folder = tmp_path_factory.mktemp("made")
    with_selected_alone(small_bundle(model_template), folder / "old")
    with_labels(folder / "old", folder / "new")
    return folder


@pytest.fixture(scope="module")
def serving(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device's folder that serves the old bundle; do not write into it."""
    folder = tmp_path_factory.mktemp("serving")
    done = run_ship(folder, made / "old", "./device")
    assert done.returncode == 0, done.stderr
    return folder / "device"


def run_ship(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, in that folder."""
    command = [sys.executable, "-m", "edgebert", "ship", *map(str, (*arguments, *QUICK))]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def desk(made: Path, serving: Path, tmp_path: Path) -> Path:
    """tmp_path with old/, new/ and a device that serves the old bundle."""
    for name in ("old", "new"):
        shutil.copytree(made / name, tmp_path / name)
    shutil.copytree(serving, tmp_path / "device", symlinks=True)
    return tmp_path


def answer(folder: Path) -> str:
    return edgebert.load(folder)("a good film").label


@pytest.mark.slow
def test_ship_status_and_rollback_of_a_folder(cli: Callable[..., Any], desk: Path) -> None:
    refused = cli("ship", "new", "./device", *QUICK)
    assert refused.code == EXIT_INPUT
    assert "the labels are minus, plus instead of negative, positive" in refused.out
    assert "If that is meant: --replace labels" in refused.out
    assert answer(desk / "device") in OLD

    result = cli("ship", "new", "./device", *QUICK, *MEANT, "--reports", "r")
    assert result.code == 0, result.err
    header, row = result.out.splitlines()
    assert header.split()[:3] == ["device", "outcome", "variant"]
    assert row.split()[:3] == ["./device", "switched", "onnxruntime/int8-dynamic"]
    assert re.search(r"^\./device: sent [\d.]+ of [\d.]+ MB$", result.err, re.M)
    assert "./device: switched to onnxruntime/int8-dynamic" in result.err
    assert answer(desk / "device") in NEW
    (report,) = (desk / "r").iterdir()
    assert "onnxruntime/int8-dynamic" in [entry.name for entry in read_report(report).candidates()]

    (again,) = json.loads(cli("ship", "new", "./device", "--json", "-q").out)
    assert (again["outcome"], again["sent_bytes"], again["variant"]) == ("unchanged", 0, "onnxruntime/int8-dynamic")

    back = cli("rollback", "./device", "-q")
    assert (back.code, back.err) == (0, "")
    assert [line.split()[1:3] + line.split()[-1:] for line in back.out.splitlines()[1:]] == [
        ["a", "recipe", "serves"],
        ["b", "recipe", "kept"],
    ]
    assert answer(desk / "device") in OLD

    (status,) = json.loads(cli("devices", "status", "./device", "--json").out)
    assert status["status"]["serving"] == "a"
    assert len(status["status"]["slots"][0]["signed_by"]) == 64


@pytest.mark.slow
def test_status_says_what_is_wrong_with_a_device(cli: Callable[..., Any], desk: Path) -> None:
    graph = desk / "device" / "slots" / "a" / "onnx" / "model_quantized.onnx"
    graph.chmod(0o644)
    data = bytearray(graph.read_bytes())
    data[1000] ^= 1
    graph.write_bytes(data)
    result = cli("devices", "status", "./device", "./nothing")
    assert result.code == EXIT_ENVIRONMENT
    assert re.search(r"^\./device .* serves, damaged: .*altered", result.out, re.M)
    assert re.search(r"^\./nothing .* serves nothing$", result.out, re.M)
    assert not (desk / "nothing").exists()

    # Shipping what should be there lays it out again.
    (mended,) = json.loads(cli("ship", "old", "./device", *QUICK, "--json", "-q").out)
    assert mended["outcome"] == "switched"
    assert answer(desk / "device") in OLD
    kept = cli("devices", "status", "./device")
    assert kept.code == EXIT_ENVIRONMENT and re.search(r"kept, damaged: .*altered", kept.out)  # no way back to that one


@pytest.mark.slow
def test_a_gate_that_fails_on_the_device_leaves_it_as_it_is(cli: Callable[..., Any], desk: Path) -> None:
    with_gates(desk / "new", desk / "strict", Gate(metric="p50_ms", max=1e-6))
    result = cli("ship", "strict", "./device", "--rounds", 1, "--queries", 16, *MEANT)
    assert result.code == EXIT_GATE_FAILED
    assert re.search(r"^\./device +refused .* no variant passed there$", result.out, re.M)
    assert re.search(r"^  \./device, onnxruntime/int8-dynamic: p50_ms <= 1e-06: .*missed", result.out, re.M)
    assert answer(desk / "device") in OLD


@pytest.mark.slow
def test_canaries_go_back_when_one_of_them_fails(cli: Callable[..., Any], desk: Path, tmp_path: Path) -> None:
    shutil.copytree(desk / "device", desk / "two", symlinks=True)
    python = killed_at(tmp_path / "python", "/current", before=True)
    (desk / "fleet.yaml").write_text(
        "devices:\n"
        "  one: {address: ./device, labels: {room: kitchen}}\n"
        f"  two: {{address: ./two, python: {python}, labels: {{room: kitchen}}}}\n"
        "  other: {address: ./other}\n"
        "  three: {address: ./three, labels: {room: kitchen}}\n"
    )
    command = ("new", "--fleet", "fleet.yaml", "--only", "room=kitchen", "--canary", 2, "--attempts", 1, *QUICK, *MEANT)
    result = cli("ship", *command, "--json", "-q")
    assert result.code == EXIT_ENVIRONMENT
    found = {item["device"]: item for item in json.loads(result.out)}
    assert {name: item["outcome"] for name, item in found.items()} == {
        "one": "rolled back",
        "two": "failed",
        "three": "not tried",
    }
    assert found["three"]["reason"] == "two went first and did not switch"
    assert (answer(desk / "device") in OLD, answer(desk / "two") in OLD) == (True, True)
    assert not (desk / "three").exists() and not (desk / "other").exists()


@pytest.mark.slow
def test_ctrl_c_leaves_the_devices_as_they_are_and_prints_what_is_done(desk: Path) -> None:
    command = [sys.executable, "-m", "edgebert", "ship", "new", "./device", "./later", "--rounds", "100", "--reports", "r"]
    command += MEANT
    with subprocess.Popen(command, cwd=desk, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr and process.stdout
        while "measure latency" not in (line := process.stderr.readline()):
            assert line, "it ended before it measured"
        agents = agents_of(process.pid)
        assert agents
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["./device", "interrupted"], ["./later", "not"]]
    assert "error: Interrupted." in err and "0 of 2 devices serve it" in err
    assert "Traceback" not in err
    assert list((desk / "r").iterdir()) == []
    assert answer(desk / "device") in OLD
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in agents))


def agents_of(pid: int) -> list[int]:
    """Process ids of the agents that a process started."""
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if AGENT[-1] in line]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ship",), ("Missing argument 'BUNDLE'", "edgebert ship --help")),
        (("ship", "old"), ("No device is named", "--fleet")),
        (("ship", "nosuch", "./d"), ("There is no bundle folder nosuch", "edgebert compress")),
        (("ship", "device", "./d"), ("device",)),
        (("ship", "unsigned", "./d"), ("is not signed", "edgebert keys sign")),
        (("ship", "altered", "./d"), ("config.json was altered",)),
        (("ship", "old", "./d", "./d"), ("./d is named twice",)),
        (("ship", "old", "./d", "d/../d"), ("are one folder of one device",)),
        (("ship", "old", ""), ("The address is empty",)),
        (("ship", "old", "pi:secret@kitchen"), ("holds a password",)),
        (("ship", "old", "./d", "--only", "room=x"), ("--only chooses from a fleet", "--fleet")),
        (("ship", "old", "--fleet", "nosuch.yaml"), ("nosuch.yaml",)),
        (("ship", "old", "--fleet", "fleet.yaml", "--only", "room"), ("is no label=value",)),
        (("ship", "old", "--fleet", "fleet.yaml", "--only", "room=attic"), ("No device of fleet.yaml has room=attic",)),
        (("ship", "old", "./d", "--replace", "everything"), ("names no change", "task, inputs, labels, options, older")),
        (("ship", "old", "./d", "--canary", "1"), ("--canary 1, but there is 1 device", "leave it out")),
        (("ship", "old", "./d", "./e", "--canary", "2"), ("--canary 2, but there are 2 devices",)),
        (("ship", "old", "./d", "--canary", "0"), ("--canary", "greater than")),
        (("ship", "old", "./d", "--parallel", "0"), ("--parallel", "greater than")),
        (("ship", "old", "./d", "--rounds", "0"), ("--rounds", "greater than")),
        (("ship", "old", "./d", "--queries", "many"), ("--queries", "valid integer")),
        (("ship", "old", "./d", "--attempts", "0"), ("--attempts", "greater than")),
        (("ship", "old", "./d", "--reports", "fleet.yaml"), ("fleet.yaml cannot hold the reports", "--reports")),
        (("ship", "old", "./d", "--reports", "fleet.yaml/r"), ("fleet.yaml/r cannot hold the reports",)),
        (("rollback",), ("No device is named",)),
        (("rollback", "./d", "--only", "a=b"), ("--only chooses from a fleet",)),
        (("devices", "status"), ("No device is named",)),
        (("devices", "status", "--fleet", "old"), ("old",)),
    ],
    ids=lambda value: " ".join(value)[:60],
)
def test_bad_input_is_reported_and_nothing_is_touched(
    arguments: tuple[str, ...], words: tuple[str, ...], cli: Callable[..., Any], made: Path, tmp_path: Path
) -> None:
    for name in ("old", "unsigned", "altered"):
        shutil.copytree(made / "old", tmp_path / name)
    (tmp_path / "unsigned" / "edgebert.sig").unlink()
    with (tmp_path / "altered" / "config.json").open("a") as file:
        file.write(" ")
    (tmp_path / "device").mkdir()
    (tmp_path / "fleet.yaml").write_text("devices: {kitchen: {address: ./kitchen, labels: {room: kitchen}}}\n")
    before = sorted(tmp_path.rglob("*"))
    result = cli(*arguments)
    assert (result.code, result.out) == (EXIT_INPUT, ""), result.err
    assert result.err.startswith("error: ") and result.err.count("error:") == 1
    for word in words:
        assert word in result.err
    assert sorted(tmp_path.rglob("*")) == before
