"""Shipping to folders of this machine, each with a real agent: what travels, what stays when it goes wrong, and what is told."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from small_bundle import INT8, compressed_run, lean, other_gate, other_labels, other_variant

import edgebert
from edgebert.devices.base import Device
from edgebert.devices.local import LocalDevice
from edgebert.errors import EXIT_GATE_FAILED, EXIT_INPUT
from edgebert.gates import Gate
from edgebert.lanes import SilentLanes
from edgebert.manifest import MANIFEST
from edgebert.report_file import read_report
from edgebert.ship.cargo import load_cargo
from edgebert.ship.convoy import Convoy
from edgebert.ship.delivery import Delivery, Order
from edgebert.slots.protocol import Trial

QUICK = Trial(rounds=1, queries=4, warmup=1)
TEXT = "a good film"


@pytest.fixture(scope="module")
def old(model_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with one INT8 graph; do not write into it."""
    return lean(compressed_run(model_template) / "bundle", tmp_path_factory.mktemp("old") / "bundle")


@pytest.fixture(scope="module")
def new(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose INT8 graph is another file, and which answers with other words; do not write into it."""
    place = tmp_path_factory.mktemp("new")
    return other_labels(other_variant(old, place / "variant"), place / "bundle")


def ship(devices: Sequence[Device], bundle: Path, **order: Any) -> list[Delivery]:
    """Ships with as little measuring as there can be."""
    convoy = Convoy(devices, load_cargo(bundle), Order(**{"trial": QUICK, "wait_s": 0.0, **order}), SilentLanes())
    asyncio.run(convoy.run())
    return convoy.deliveries


@pytest.fixture(scope="module")
def serving(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device's folder that serves the old bundle; do not write into it."""
    folder = tmp_path_factory.mktemp("serving") / "device"
    (delivery,) = ship([LocalDevice("kitchen", folder)], old, reports=folder.parent)
    assert (delivery.outcome, delivery.variant, delivery.reason) == ("switched", "onnxruntime/int8-dynamic", None)
    assert delivery.sent_bytes == delivery.cargo_bytes == load_cargo(old).size_bytes
    return folder


@pytest.fixture
def folder(serving: Path, tmp_path: Path) -> Path:
    """A device's folder of the test's own that serves the old bundle."""
    return Path(shutil.copytree(serving, tmp_path / "device", symlinks=True))


def answer(folder: Path) -> str:
    """What the device says to a text, by what it serves."""
    return edgebert.load(folder / "current")(TEXT).label


def words(bundle: Path) -> list[str]:
    return list(json.loads((bundle / MANIFEST).read_text())["labels"])


def test_a_second_ship_moves_only_what_changed(folder: Path, old: Path, tmp_path: Path) -> None:
    changed = other_variant(old, tmp_path / "changed")
    (delivery,) = ship([LocalDevice("kitchen", folder)], changed)
    must = [INT8, MANIFEST, "edgebert.sig"]
    assert delivery.sent_bytes == sum((changed / name).stat().st_size for name in must)
    assert delivery.outcome == "switched"
    for name in must:
        assert (folder / "current" / name).read_bytes() == (changed / name).read_bytes()
    (again,) = ship([LocalDevice("kitchen", folder)], changed)
    assert (again.outcome, again.sent_bytes) == ("unchanged", 0)


def test_what_comes_back_is_a_report_of_that_device(serving: Path, old: Path) -> None:
    report = read_report(serving.parent / "kitchen.json")
    assert report.recipe.endswith("on kitchen")
    assert [entry.name for entry in report.entries] == ["onnxruntime/int8-dynamic"]
    assert len(report.entries[0].latencies_ms()) == QUICK.queries
