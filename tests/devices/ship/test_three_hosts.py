"""Three hosts at once, each with the device side alone: shipped to, run there, compared, rolled back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundles import small_bundle, with_labels, with_selected_alone
from device_venv import MadeEnvironment, made_environment
from ssh_server import Server, hosts, make_ssh_home

import edgebert
from edgebert.devices.fleet import load_fleet
from edgebert.devices.transport.base import Device
from edgebert.report.file import read_report

__all__ = ["hosts", "made_environment"]
QUICK = ("--rounds", 1, "--queries", 16)
TEXTS = ["a good film", "an awful soup, and it was not fine"]
FLEET = """\
parallel: 3
devices:
  kitchen: {address: kitchen, labels: {floor: 0}}
  attic: {address: attic, labels: {floor: 2}}
  cellar: {address: cellar, labels: {floor: 0}}
"""


@pytest.fixture
def desk(
    hosts: dict[str, Server],
    made_environment: MadeEnvironment,
    model_template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """tmp_path with the bundles old/ and new/ and a fleet.yaml of the three hosts, each with the device side."""
    for server in hosts.values():
        made_environment.lend(server)
    monkeypatch.setenv("HOME", str(make_ssh_home(tmp_path / "home", hosts)))
    with_selected_alone(small_bundle(model_template), tmp_path / "old")
    with_labels(tmp_path / "old", tmp_path / "new")
    (tmp_path / "fleet.yaml").write_text(FLEET)
    return tmp_path


def run_there(device: Device, program: str, *arguments: str) -> str:
    """Output of a program of the environment on a device."""

    async def run() -> str:
        async with device.open() as channel:
            done = await channel.run([f"~/edgebert/venv/bin/{program}", *arguments])
        assert done.code == 0, done.err
        return done.out

    return asyncio.run(run())


@pytest.mark.slow
def test_ship_run_compare_and_roll_back_on_three_hosts(
    cli: Callable[..., Any], desk: Path, hosts: dict[str, Server], made_environment: MadeEnvironment
) -> None:
    fleet = ("--fleet", "fleet.yaml")
    result = cli("devices", "setup", *fleet, "--wheels", made_environment.wheels)
    assert result.code == 0, result.out + result.err

    for bundle, canary in (("old", ()), ("new", ("--canary", 1, "--replace", "labels"))):
        result = cli("ship", bundle, *fleet, *canary, *QUICK, "--reports", f"reports-{bundle}", "--json")
        assert result.code == 0, result.err
        found = json.loads(result.out)
        assert {item["device"]: item["outcome"] for item in found} == dict.fromkeys(hosts, "switched")
        assert all(item["p50_ms"] > 0 for item in found)

    devices = load_fleet(desk / "fleet.yaml").devices
    here = edgebert.load(desk / "new").predict(TEXTS)
    for device in devices:
        there = json.loads(run_there(device, "edgebert", "run", str(hosts[device.name].home / "edgebert"), *TEXTS, "--json"))
        assert [item["label"] for item in there] == [item.label for item in here]
        assert [item["score"] for item in there] == pytest.approx([item.score for item in here], abs=1e-6)
        assert read_report(desk / "reports-new" / f"{device.name}.json").recipe.endswith(f"on {device.name}")

    compared = cli("compare", "reports-new/kitchen.json", "reports-new/attic.json", "--across-devices")
    assert compared.code == 0 and "onnxruntime/int8-dynamic" in compared.out
    compared = cli("compare", "reports-old", "reports-new", "--across-devices", "--json")
    assert compared.code == 0, compared.err
    assert len(json.loads(compared.out)["comparisons"]) == 3

    back = cli("rollback", *fleet, "--only", "floor=0", "--json", "-q")
    assert back.code == 0, back.err
    status = json.loads(cli("devices", "status", *fleet, "--json", "-q").out)
    assert {item["device"]: item["status"]["serving"] for item in status} == {"kitchen": "a", "attic": "b", "cellar": "a"}
    for device, labels in zip(devices, ("old", "new", "old"), strict=True):
        current = str(hosts[device.name].home / "edgebert" / "current")
        (there,) = json.loads(run_there(device, "edgebert", "run", current, TEXTS[0], "--json"))
        assert there["label"] == edgebert.load(desk / labels)(TEXTS[0]).label

    code = "import importlib.metadata as m; print(*(d.metadata['Name'] for d in m.distributions()))"
    assert not {"torch", "transformers", "asyncssh"} & set(run_there(devices[0], "python", "-c", code).split())
