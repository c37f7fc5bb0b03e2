"""The device side needs what `pip install edgebert` brings and no more, and a process that serves imports little of that."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundles import fill, make_root, switch
from device_process import COMMAND, WITHOUT

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
def bundle(finished: Path) -> Path:
    """The finished bundle; do not write into it."""
    return finished / "runs" / "recipe" / "bundle"


def python(script: str, *arguments: object, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """A script in a fresh interpreter."""
    words = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **variables})


def test_the_base_install_holds_neither_torch_nor_a_way_to_devices(absent: list[str]) -> None:
    assert {"torch", "transformers", "onnx", "openvino", "asyncssh", "ruamel", "scipy", "plotly", "jinja2"} <= set(absent)
    assert not {"numpy", "onnxruntime", "tokenizers", "pydantic", "typer", "model_signing", "OpenSSL"} & set(absent)


def test_load_works_with_the_base_install_alone(bundle: Path, absent: list[str]) -> None:
    done = python(WITHOUT.format(absent=absent) + OPENING, bundle)
    assert done.returncode == 0, done.stderr
    label, count = done.stdout.split()
    assert label in ("negative", "positive") and count == "2"


def test_watching_works_with_the_base_install_alone(bundle: Path, absent: list[str], tmp_path: Path) -> None:
    root = make_root(tmp_path / "edgebert")
    fill(root, "a", bundle, "onnxruntime/int8-static")
    switch(root, "a")
    done = python(WITHOUT.format(absent=absent) + WATCHING, root.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "onnxruntime/int8-static"


@pytest.mark.parametrize(
    "words",
    [
        ("run", "{bundle}", "a good film", "--json"),
        ("verify", "{bundle}"),
        (
            "bench",
            "{bundle}",
            "--variant",
            "onnxruntime/int8-dynamic",
            "--rounds",
            "1",
            "--queries",
            "4",
            "--out",
            "bench.json",
        ),
    ],
    ids=lambda words: words[0],
)
def test_verb_works_with_the_base_install_alone(
    bundle: Path, absent: list[str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    arguments = [word.format(bundle=bundle) for word in words]
    done = python(WITHOUT.format(absent=absent) + COMMAND, *arguments, cwd=tmp_path)
    # The bundle may have been made for a runtime that is not there: then `verify` says so.
    selected = json.loads((bundle / "edgebert.json").read_text())["selected"]
    assert done.returncode == (3 if words[0] == "verify" and selected.startswith("openvino") else 0), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout


def imported(script: str, *arguments: object, **variables: str) -> set[str]:
    """Top names of all modules that a script imports."""
    done = python(f"{script}\nprint('\\n' + ' '.join(sys.modules))", *arguments, **variables)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_import_of_edgebert_imports_nothing() -> None:
    bare, ours = imported("import sys"), imported("import sys, edgebert")
    assert not (ours - bare) & (COMMAND_LINE | RUNTIMES | SIGNATURES | NETWORK | {"numpy", "pydantic", "importlib_metadata"})


def test_help_imports_no_runtime() -> None:
    shown = imported("import sys\nfrom edgebert.cli.main import app\nsys.argv = ['edgebert']")
    assert not shown & (RUNTIMES | SIGNATURES | {"numpy", "torch"})


def test_a_load_with_a_receipt_imports_neither_signatures_nor_the_command_line(bundle: Path, tmp_path: Path) -> None:
    script = "import sys, edgebert\nedgebert.load(sys.argv[1], variant='onnxruntime/int8-dynamic')('a good film')"
    first = imported(script, bundle, XDG_CACHE_HOME=str(tmp_path))
    assert "model_signing" in first
    later = imported(script, bundle, XDG_CACHE_HOME=str(tmp_path))
    assert {"onnxruntime", "tokenizers", "numpy", "pydantic"} <= later
    heavy = {"torch", "transformers", "openvino", "asyncssh", "scipy"}
    assert not later & (COMMAND_LINE | SIGNATURES | heavy | {"requests", "urllib3", "huggingface_hub", "asyncio"})


def test_a_bundle_opens_on_what_says_that_it_is_an_arm_machine(bundle: Path, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CORTEX_A72)
    done = python(ARM, bundle, cpuinfo)
    assert done.returncode == 0, done.stderr
    name, obstacle, *answer = done.stdout.split()
    assert name == json.loads((bundle / "edgebert.json").read_text())["selected"]
    assert obstacle == "None" and answer[0].startswith("Answer(") and answer[-1] == "('arm-neon',)"
