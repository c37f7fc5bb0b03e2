"""What runs on a device needs only what `pip install edgebert` brings, imports little of that, and sends nothing to anybody."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundles import fill, make_root, switch
from conftest import RECIPE
from device_process import COMMAND, WITHOUT, WORKSTATION, on_a_device, run_python

OPENING = """
import sys
import edgebert
predictor = edgebert.load(sys.argv[1], threads=1)
print(predictor("a good film").label, len(predictor.predict(["a good film", "an awful soup"], batch=2)))
"""
WATCHING = """
import sys
import edgebert
with edgebert.load(sys.argv[1], watch=0.1) as predictor:
    print(predictor("a good film").label, predictor.variant.name)
"""
ARM = """
import platform, sys
from pathlib import Path
platform.machine = lambda: "aarch64"
from edgebert.runtimes import isa
isa.CPUINFO = Path(sys.argv[2])
import edgebert
predictor = edgebert.load(sys.argv[1])
print(predictor.variant.name, predictor.obstacle, predictor("a good film"), isa.host_cpu().isas)
"""
CORTEX_A72 = "processor : 0\nFeatures : fp asimd evtstrm crc32 cpuid\n"
COMMAND_LINE = {"typer", "click", "rich", "pygments"}
RUNTIMES = {"onnxruntime", "openvino", "tokenizers"}
SIGNATURES = {"model_signing", "sigstore", "OpenSSL", "cryptography", "google"}
NETWORK = {"requests", "urllib3", "http", "huggingface_hub", "asyncssh", "socket", "ssl", "asyncio"}


def base_distributions() -> set[str]:
    """Names of what the base install brings, with all that it needs itself; nothing of an extra."""
    found: set[str] = set()
    waiting = ["edgebert"]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += needs(name)
    return found


def needs(name: str) -> Iterator[str]:
    """What a distribution requires, without its extras and what its markers leave out here."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires(name) or ()
    except importlib.metadata.PackageNotFoundError:
        return
    for line in lines:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            yield normal(wanted.name)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def absent() -> list[str]:
    """Every importable package of this environment that the base install does not bring."""
    brought = base_distributions()
    names = importlib.metadata.packages_distributions()
    strange = {name for name, owners in names.items() if not {normal(owner) for owner in owners} & brought}
    return sorted(name for name in strange if name.isidentifier() and not name.startswith("_"))


@pytest.fixture(scope="module")
def shared(finished: Path) -> Path:
    """A bundle with FP32 and INT8 for both runtimes. Do not write into it."""
    return finished / "runs" / "recipe" / "bundle"


def test_the_base_install_holds_neither_torch_nor_a_way_to_devices(absent: list[str]) -> None:
    assert {"torch", "transformers", "onnx", "openvino", "asyncssh", "ruamel", "scipy", "plotly", "jinja2"} <= set(absent)
    assert not {"numpy", "onnxruntime", "tokenizers", "pydantic", "typer", "model_signing", "OpenSSL"} & set(absent)


def test_load_works_with_the_base_install_alone(shared: Path, absent: list[str]) -> None:
    done = run_python(WITHOUT.format(absent=absent) + OPENING, shared)
    assert done.returncode == 0, done.stderr
    label, count = done.stdout.split()
    assert label in ("negative", "positive") and count == "2"


def test_watching_works_with_the_base_install_alone(shared: Path, absent: list[str], tmp_path: Path) -> None:
    root = make_root(tmp_path / "edgebert")
    fill(root, "a", shared, "onnxruntime/int8-static")
    switch(root, "a")
    done = run_python(WITHOUT.format(absent=absent) + WATCHING, root.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "onnxruntime/int8-static"


def test_run_works_with_the_base_install_alone(shared: Path, absent: list[str]) -> None:
    done = on_a_device("run", shared, "a good film", "an awful soup", "--json", absent=absent)
    assert done.returncode == 0, done.stderr
    assert [answer["text"] for answer in json.loads(done.stdout)] == ["a good film", "an awful soup"]
    assert {answer["label"] for answer in json.loads(done.stdout)} <= {"negative", "positive"}


def test_verify_works_with_the_base_install_alone(shared: Path, absent: list[str]) -> None:
    verify_tests_what_is_there(shared, absent, "openvino", "onnxruntime")


def test_bench_works_with_the_base_install_alone(shared: Path, absent: list[str], tmp_path: Path) -> None:
    words = ("--variant", "onnxruntime/int8-dynamic", "--rounds", "1", "--queries", "4", "--out", "bench.json")
    done = on_a_device("bench", shared, *words, absent=absent, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout and "Traceback" not in done.stderr


def verify_tests_what_is_there(bundle: Path, absent: list[str], missing: str, there: str) -> None:
    """`verify` tests the variants of the runtime that is there, and fails if the selected one is of the other runtime."""
    done = on_a_device("verify", bundle, "--json", absent=absent)
    selected = json.loads((bundle / "edgebert.json").read_text())["selected"]
    assert done.returncode == (3 if selected.startswith(missing) else 0), done.stderr
    assert "Traceback" not in done.stderr
    tested = {test["variant"].split("/")[0] for test in json.loads(done.stdout)["variants"] if test["difference"] is not None}
    assert tested == {there}


def imported(script: str, *arguments: object, **variables: str) -> set[str]:
    """Top names of all modules that a script imports."""
    done = run_python(f"{script}\nprint('\\n' + ' '.join(sys.modules))", *arguments, **variables)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_import_of_edgebert_imports_nothing() -> None:
    bare, ours = imported("import sys"), imported("import sys, edgebert")
    assert not (ours - bare) & (COMMAND_LINE | RUNTIMES | SIGNATURES | NETWORK | {"numpy", "pydantic", "importlib_metadata"})


def test_help_imports_no_runtime() -> None:
    shown = imported("import sys\nfrom edgebert.cli.main import app\nsys.argv = ['edgebert']")
    assert not shown & (RUNTIMES | SIGNATURES | {"numpy", "torch"})


def test_a_load_with_a_receipt_imports_neither_signatures_nor_the_command_line(shared: Path, tmp_path: Path) -> None:
    script = "import sys, edgebert\nedgebert.load(sys.argv[1], variant='onnxruntime/int8-dynamic')('a good film')"
    first = imported(script, shared, XDG_CACHE_HOME=str(tmp_path))
    assert "model_signing" in first
    later = imported(script, shared, XDG_CACHE_HOME=str(tmp_path))
    assert {"onnxruntime", "tokenizers", "numpy", "pydantic"} <= later
    heavy = {"torch", "transformers", "openvino", "asyncssh", "scipy"}
    assert not later & (COMMAND_LINE | SIGNATURES | heavy | {"requests", "urllib3", "huggingface_hub", "asyncio"})


def test_a_bundle_opens_on_what_says_that_it_is_an_arm_machine(shared: Path, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CORTEX_A72)
    done = run_python(ARM, shared, cpuinfo)
    assert done.returncode == 0, done.stderr
    name, obstacle, *answer = done.stdout.split()
    assert name == json.loads((shared / "edgebert.json").read_text())["selected"]
    assert obstacle == "None" and answer[0].startswith("PredictedLabel(") and answer[-1] == "('arm-neon',)"


def test_run_answers_on_a_device_as_on_the_workstation(shared: Path) -> None:
    arguments = ("run", shared, "a good film", "--variant", "onnxruntime/int8-dynamic", "--json")
    assert on_a_device(*arguments).stdout == run_python(COMMAND, *arguments).stdout != ""


def test_verify_replays_every_variant_when_only_the_device_install_is_there(shared: Path) -> None:
    done = on_a_device("verify", shared, "--json")
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


def test_run_and_verify_use_openvino_when_onnxruntime_is_not_there(shared: Path) -> None:
    absent = sorted(WORKSTATION | {"onnxruntime"})
    done = on_a_device("run", shared, "a good film", absent=absent)
    assert done.returncode == 0, done.stderr
    verify_tests_what_is_there(shared, absent, "onnxruntime", "openvino")


def test_run_says_what_to_install_when_no_runtime_is_there(shared: Path) -> None:
    done = on_a_device("run", shared, "text", absent=WORKSTATION | {"openvino", "onnxruntime"})
    assert done.returncode == 3
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("schema",), ("compress", "--help")])
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
from edgebert.stages.quantize.nncf import Nncf
from edgebert.stages.quantize.settings import Settings
from edgebert.tasks.base import Encoded, collate
model, out = Path(sys.argv[1]), Path(sys.argv[2])
examples = tuple(Encoded(tuple(range(5, 5 + length)), (0,) * length) for length in (4, 7))
Nncf().quantize(model, out, Settings(calibration=examples))
session = get_runtime("openvino").open(out / "openvino_model.xml", Target(runtime="openvino"))
session.predict(collate(examples, length=8, pad_id=0))
telemetry = [name for name, module in sys.modules.items() if "openvino_telemetry" in name and module is not None]
print(telemetry, calls, "nncf" in sys.modules, "openvino" in sys.modules)
"""


@pytest.mark.slow
def test_openvino_and_nncf_send_nothing_when_our_code_uses_them(shared: Path, tmp_path: Path) -> None:
    assert importlib.util.find_spec("openvino_telemetry") is not None or "openvino_telemetry" in sys.modules
    done = run_python(PHONING, shared / "openvino" / "openvino_model.xml", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[] [] True True"


def test_onnxruntime_sends_nothing_and_keeps_no_mark_of_the_device(shared: Path, tmp_path: Path) -> None:
    script = """
import sys
import edgebert
edgebert.load(sys.argv[1], variant="onnxruntime/int8-dynamic")("a good film")
"""
    bare = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", script, shared],
        env={**bare, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == []  # its uploader keeps its session in TMPDIR/.ses
