"""What runs on a device needs only the device install, imports little of it, and nothing phones home."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RECIPE
from device_process import COMMAND, WORKSTATION, on_a_device, run_python


@pytest.fixture(scope="module")
def shipped_bundle(finished: Path) -> Path:
    """The finished bundle; do not write into it."""
    return finished / "runs" / "recipe" / "bundle"


def test_run_predicts_when_only_the_device_install_is_there(shipped_bundle: Path) -> None:
    done = on_a_device("run", shipped_bundle, "a good film", "an awful soup", "--json")
    assert done.returncode == 0, done.stderr
    assert [answer["text"] for answer in json.loads(done.stdout)] == ["a good film", "an awful soup"]
    assert {answer["label"] for answer in json.loads(done.stdout)} <= {"negative", "positive"}


def test_run_answers_on_a_device_as_on_the_workstation(shipped_bundle: Path) -> None:
    arguments = ("run", shipped_bundle, "a good film", "--variant", "onnxruntime/int8-dynamic", "--json")
    assert on_a_device(*arguments).stdout == run_python(COMMAND, *arguments).stdout != ""


def test_verify_replays_every_variant_when_only_the_device_install_is_there(shipped_bundle: Path) -> None:
    done = on_a_device("verify", shipped_bundle, "--json")
    assert done.returncode == 0, done.stderr
    assert [(test["variant"], test["state"]) for test in json.loads(done.stdout)["variants"]] == [
        (name, "ok")
        for name in (
            "onnxruntime/fp32",
            "onnxruntime/int8-dynamic",
            "onnxruntime/int8-static",
            "openvino/fp32",
            "openvino/int8-nncf",
        )
    ]


@pytest.mark.parametrize(("absent", "remaining"), [("openvino", "onnxruntime"), ("onnxruntime", "openvino")])
def test_run_and_verify_use_the_runtime_that_is_there_when_the_other_is_not(
    shipped_bundle: Path, absent: str, remaining: str
) -> None:
    done = on_a_device("run", shipped_bundle, "a good film", absent=WORKSTATION | {absent})
    assert done.returncode == 0, done.stderr
    done = on_a_device("verify", shipped_bundle, "--json", absent=WORKSTATION | {absent})
    selected = json.loads((shipped_bundle / "edgebert.json").read_text())["selected"]
    assert done.returncode == (3 if selected.startswith(absent) else 0), done.stderr
    tested = {test["variant"].split("/")[0] for test in json.loads(done.stdout)["variants"] if test["difference"] is not None}
    assert tested == {remaining}


def test_run_says_what_to_install_when_no_runtime_is_there(shipped_bundle: Path) -> None:
    done = on_a_device("run", shipped_bundle, "text", absent=WORKSTATION | {"openvino", "onnxruntime"})
    assert done.returncode == 3
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("schema",), ("--version",), ("compress", "--help"), ("run", "--help")])
def test_command_works_when_only_the_device_install_is_there(arguments: tuple[str, ...]) -> None:
    done = on_a_device(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("verb", ["compress", "plan", "validate"])
def test_command_says_what_to_install_when_it_needs_the_workstation(verb: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    done = on_a_device(verb, "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 3
    assert 'pip install "edgebert[compress]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("target", [("kitchen",), ("--fleet", "fleet.yaml")])
def test_devices_says_what_to_install_when_it_needs_the_shipping_side(target: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("devices: {kitchen: {address: kitchen}}")
    done = on_a_device("devices", "check", *target, cwd=tmp_path)
    assert done.returncode == 3
    assert 'pip install "edgebert[ship]"' in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_compress_says_what_to_install_before_it_does_any_work(finished: Path, tmp_path: Path) -> None:
    done = on_a_device("compress", finished / "recipe.yaml", "--store", tmp_path / "store", absent={"onnxscript"}, cwd=tmp_path)
    assert done.returncode == 3
    assert "onnxscript" in done.stderr and 'pip install "edgebert[compress]"' in done.stderr
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


PHONING = """
import sys
from pathlib import Path
calls = []
sys.addaudithook(lambda event, arguments: calls.append((event, str(arguments))) if event == "socket.connect" else None)
from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target
from edgebert.stages.quantize import nncf as method
from edgebert.stages.quantize.settings import Settings
from edgebert.tasks.base import Encoded, collate
model, out = Path(sys.argv[1]), Path(sys.argv[2])
examples = tuple(Encoded(tuple(range(5, 5 + length)), (0,) * length) for length in (4, 7))
method.quantize(model, out, Settings(per_channel=True, embeddings=True, calibration=examples))
session = get_runtime("openvino").open(out / "openvino_model.xml", Target(runtime="openvino"))
session.predict(collate(examples, length=8, pad_id=0))
telemetry = [name for name, module in sys.modules.items() if "openvino_telemetry" in name and module is not None]
print(telemetry, calls, "nncf" in sys.modules, "openvino" in sys.modules)
"""


def test_openvino_and_nncf_send_nothing_when_our_code_uses_them(shipped_bundle: Path, tmp_path: Path) -> None:
    assert importlib.util.find_spec("openvino_telemetry") is not None or "openvino_telemetry" in sys.modules
    done = run_python(PHONING, shipped_bundle / "openvino" / "openvino_model.xml", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[] [] True True"


def test_onnxruntime_sends_nothing_and_keeps_no_mark_of_the_device(shipped_bundle: Path, tmp_path: Path) -> None:
    script = """
import sys
import edgebert
edgebert.load(sys.argv[1], variant="onnxruntime/int8-dynamic")("a good film")
"""
    bare = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", script, shipped_bundle],
        env={**bare, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == []  # its uploader keeps its session in TMPDIR/.ses
