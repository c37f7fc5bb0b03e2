"""The versions that pyproject.toml allows are true: the lowest and the newest run a bundle that was made with another."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from bundles import small_bundle
from version_venvs import edgebert, lowest, make_venv, python_of, requirements, side_folder

BETWEEN = ("1.24.4", "1.27.0", "1.29.0")
"""Versions of onnxruntime between the lowest that is allowed and the newest there is."""
TEXTS = ("a good film", "the soup was awful, and it is not fine", "app")


@pytest.fixture(scope="module")
def shared(finished: Path) -> Path:
    """A bundle with FP32 and INT8 for both runtimes. Do not write into it."""
    return finished / "runs" / "recipe" / "bundle"


def lowest_onnxruntime() -> str:
    return next(line for line in lowest(requirements(), "3.11") if line.startswith("onnxruntime=="))


@pytest.mark.slow
def test_goldens_hold_with_the_lowest_the_newest_and_three_onnxruntimes_between(shared: Path, tmp_path: Path) -> None:
    wanted = [lowest_onnxruntime(), *(f"onnxruntime=={version}" for version in BETWEEN), "onnxruntime"]
    made = json.loads((shared / "edgebert.json").read_text())["variants"][0]["requires"]["onnxruntime"]
    seen, labels = [], []
    for number, requirement in enumerate(wanted):
        side = side_folder(tmp_path / str(number), requirement)
        done = edgebert(Path(sys.executable), "verify", shared, "--json", cwd=tmp_path, side=side)
        assert done.returncode == 0, (requirement, done.stdout, done.stderr)
        tests = [test for test in json.loads(done.stdout)["variants"] if test["variant"].startswith("onnxruntime")]
        assert {test["state"] for test in tests} == {"ok"} and {test["labels_changed"] for test in tests} == {0}
        assert {test["made_with"]["onnxruntime"] for test in tests} == {made}
        seen.append({test["here"]["onnxruntime"] for test in tests})
        asked = edgebert(Path(sys.executable), "run", shared, *TEXTS, "--json", cwd=tmp_path, side=side)
        labels.append([answer["label"] for answer in json.loads(asked.stdout)])
    assert len({version for versions in seen for version in versions}) == len(wanted) == 5
    assert [versions == {line.split("==")[1]} for versions, line in zip(seen[1:4], wanted[1:4], strict=True)] == [True] * 3
    assert labels == [labels[0]] * 5


@pytest.mark.slow
def test_every_command_of_a_device_and_ship_run_with_the_lowest_versions(model_template: Path, tmp_path: Path) -> None:
    bundle = small_bundle(model_template)
    python = make_venv(python_of("3.11"), tmp_path / "venv", lowest(requirements("ship"), "3.11"))
    helped = edgebert(python, "--help", cwd=tmp_path)
    assert helped.returncode == 0 and "verify" in helped.stdout, helped.stderr
    verifies_and_answers(python, bundle, bundle, tmp_path)
    quick = ("--rounds", 1, "--queries", 4)
    measured = edgebert(python, "bench", bundle, *quick, "--variant", "onnxruntime/int8-dynamic", cwd=tmp_path)
    assert measured.returncode == 0 and "int8-dynamic" in measured.stdout, measured.stderr
    shipped = edgebert(python, "ship", bundle, "./device", *quick, "--json", cwd=tmp_path)
    assert shipped.returncode == 0, shipped.stdout + shipped.stderr
    verifies_and_answers(python, bundle, tmp_path / "device" / "current", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("version", "least"), [("3.12", True), ("3.13", False)], ids=["lowest on 3.12", "newest on 3.13"])
def test_a_bundle_answers_on_later_pythons(version: str, least: bool, model_template: Path, tmp_path: Path) -> None:
    bundle, wanted = small_bundle(model_template), requirements()
    python = make_venv(python_of(version), tmp_path / "venv", lowest(wanted, version) if least else wanted)
    verifies_and_answers(python, bundle, bundle, tmp_path)


def verifies_and_answers(python: Path, bundle: Path, served: Path, folder: Path) -> None:
    """`verify` finds every golden as it was, and `run` answers every text."""
    verified = edgebert(python, "verify", bundle, "--json", cwd=folder)
    assert verified.returncode == 0, verified.stderr
    assert {test["state"] for test in json.loads(verified.stdout)["variants"]} == {"ok"}
    asked = edgebert(python, "run", served, *TEXTS, "--json", cwd=folder)
    assert [answer["text"] for answer in json.loads(asked.stdout)] == list(TEXTS), asked.stderr


def test_every_requirement_says_its_lowest_version() -> None:
    everything = requirements("openvino", "compare", "loadgen", "ship")
    assert len(lowest(everything, "3.11")) == len({line.split(">")[0] for line in everything})
