"""Missing packages, full disks, no Hub, Ctrl-C, several processes: one message, the right exit code, nothing left."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from breaks import COMPRESS, SQUAD, Case, assert_nothing_left, assert_refused, both, cases, evaluation, model, nothing, swap

from edgebert.core.store import ArtifactStore
from edgebert.errors import EXIT_ENVIRONMENT, EXIT_INPUT, EXIT_INTERRUPTED


@pytest.mark.parametrize(
    ("package", "method", "words"),
    [
        ("datasets", "dynamic", ("Reading eval.csv needs the package datasets",)),
        ("onnxruntime", "dynamic", ("needs the package onnxruntime",)),
        ("torch", "dynamic", ("The stage export-onnx needs the package torch",)),
        ("openvino", "nncf", ("needs the package openvino",)),
        ("nncf", "nncf", ("The stage int8-nncf needs the package nncf",)),
    ],
)
def test_compress_names_a_package_that_is_not_installed_before_any_work(
    package: str, method: str, words: tuple[str, ...], cli: Any, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "nncf":
        both(swap("[dynamic]", "[nncf]"), swap("onnxruntime", "openvino"))(recipe.parent)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find_spec(name, *rest))
    assert_refused(cli(*COMPRESS), EXIT_ENVIRONMENT, (*words, "which is not installed", 'pip install "edgebert['))
    assert_nothing_left(recipe.parent)
    made = {artifact.manifest.made_by.name for artifact in ArtifactStore(recipe.parent / "store").artifacts()}
    assert made <= {"model", "data"}


@cases(
    Case("ruamel.yaml", nothing, ("Reading a recipe needs the package ruamel.yaml",)),
    Case("ijson", evaluation(SQUAD % "", "e.json"), ("Reading e.json needs the package ijson",)),
    Case("huggingface_hub", model("org/name"), ("The Hub model org/name needs the package huggingface_hub",)),
)
def test_compress_names_a_module_that_cannot_be_imported(
    case: Case, cli: Any, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.broken(recipe.parent)
    monkeypatch.setitem(sys.modules, case.id, None)
    assert_refused(cli(*COMPRESS), EXIT_ENVIRONMENT, (*case.words, 'pip install "edgebert['))
    assert_nothing_left(recipe.parent)


@pytest.fixture
def tmpfs() -> Iterator[Callable[[Path, str], None]]:
    """Mounts a small file system over a folder while the test runs."""
    mounted: list[Path] = []

    def mount(folder: Path, options: str) -> None:
        if not sys.platform.startswith("linux") or os.geteuid() != 0:
            pytest.skip("only root can mount a file system")
        folder.mkdir(exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this root cannot mount a file system: {done.stderr.strip()}")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)  # lazy, because the process may have mapped a file of it


@pytest.mark.parametrize(("place", "option"), [("store", "--store"), ("runs", "--out")])
def test_compress_says_when_a_folder_cannot_be_written(
    place: str, option: str, cli: Any, recipe: Path, request: pytest.FixtureRequest
) -> None:
    folder = recipe.parent / place
    if os.geteuid() == 0:  # whom permissions do not bind
        request.getfixturevalue("tmpfs")(folder, "ro")
    else:
        folder.mkdir(mode=0o555)
    assert_refused(cli(*COMPRESS), EXIT_ENVIRONMENT, (f"/{place}", "cannot be written", f"may write with {option}"))
    assert_nothing_left(recipe.parent)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "size", "words"),
    [
        ("store", "16k", ("/store", "edgebert store gc", "--store")),  # while a file is copied
        ("store", "400k", ("/store", "edgebert store gc", "--store")),  # while a library writes
        ("runs", "16k", ("/runs/recipe", "--out")),
    ],
    ids=["copy", "library", "out"],
)
def test_compress_says_when_the_disk_is_full(
    place: str, size: str, words: tuple[str, ...], cli: Any, recipe: Path, tmpfs: Callable[[Path, str], None]
) -> None:
    if place == "store":
        both(swap("[dynamic]", "[nncf]"), swap("onnxruntime", "openvino"))(recipe.parent)
    tmpfs(recipe.parent / place, f"size={size}")
    assert_refused(cli(*COMPRESS), EXIT_ENVIRONMENT, ("No space left", *words))
    assert_nothing_left(recipe.parent)


LIMITED = """
import resource, sys
from edgebert.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
main()
"""


def command(recipe: Path, *python: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs compress in a process of its own; `python` holds the arguments of Python."""
    surroundings = {**os.environ, "EDGEBERT_HOME": str(recipe.parent / "store"), **environment}
    return subprocess.run(
        [sys.executable, *python, *COMPRESS],
        cwd=recipe.parent,
        env={name: value for name, value in surroundings.items() if value},
        capture_output=True,
        text=True,
        timeout=300,
    )


def refused_by(done: subprocess.CompletedProcess[str]) -> SimpleNamespace:
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


def test_compress_says_when_a_file_may_not_grow(recipe: Path) -> None:
    done = command(recipe, "-c", LIMITED)
    assert_refused(refused_by(done), EXIT_ENVIRONMENT, ("No space left", "File too large", "--store"))
    assert_nothing_left(recipe.parent)


def test_compress_says_when_the_hub_does_not_answer(recipe: Path, tmp_path: Path) -> None:
    model("org/name")(recipe.parent)
    hub = {"HF_HUB_OFFLINE": "", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}  # nobody listens there
    done = command(recipe, "-m", "edgebert", **hub)
    assert_refused(refused_by(done), EXIT_ENVIRONMENT, ("could not be reached", "Connection refused", "--set model=PATH"))
    assert_nothing_left(recipe.parent)


LIGHT = """
import sys
from edgebert.cli.main import main
try:
    main()
except SystemExit as end:
    sys.exit("torch was loaded" if {"torch", "transformers"} & set(sys.modules) else end.code)
"""


def test_compress_finds_what_is_missing_before_it_loads_torch(recipe: Path) -> None:
    swap("data/eval.csv", "data/evl.csv")(recipe.parent)
    assert_refused(refused_by(command(recipe, "-c", LIGHT)), EXIT_INPUT, ("data/evl.csv does not exist",))


def interrupt(recipe: Path, reached: str) -> tuple[int, str]:
    """Sends Ctrl-C, as a terminal does, when progress reaches a line. Returns the exit code and the standard error."""
    arguments = [sys.executable, "-m", "edgebert", "compress", "recipe.yaml"]
    with subprocess.Popen(
        arguments,
        cwd=recipe.parent,
        env={**os.environ, "EDGEBERT_HOME": str(recipe.parent / "store")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith(reached):
                break
        os.killpg(process.pid, signal.SIGINT)
        said += process.stderr.read()
    return process.returncode, said


@pytest.mark.slow
def test_compress_can_be_interrupted_and_goes_on_afterwards(recipe: Path, cli: Any) -> None:
    for reached in ("read data.eval", "export to ONNX", "measure latency"):
        code, said = interrupt(recipe, reached)
        assert code == EXIT_INTERRUPTED, said
        assert reached in said
        assert said.count("error: Interrupted.") == 1
        assert "run the same command again to go on" in said
        assert "Traceback" not in said
        assert_nothing_left(recipe.parent)
    result = cli("compress", "recipe.yaml")
    assert result.code == 0, result.err
    assert "int8-dynamic: found in the store" in result.err


@pytest.mark.parametrize("name", ["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_compress_refuses_to_be_started_as_several_processes(
    name: str, cli: Any, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "2")
    words = (f"edgebert was started as 2 processes ({name}=2)", "Start it without accelerate launch", f"unset {name}")
    assert_refused(cli(*COMPRESS), EXIT_ENVIRONMENT, words)
    assert not (recipe.parent / "store").exists()
    monkeypatch.setenv(name, "1")
    assert cli("validate", recipe).code == 0
