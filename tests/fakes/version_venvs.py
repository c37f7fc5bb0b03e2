"""Other versions of what the device side needs, of their own: side folders with one package, and small virtual environments."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--retries", "1")
UNREACHED = re.compile(r"Retry\(|ConnectionError|NewConnection|timed out|name resolution|ProxyError|No space left")
"""What pip says where the package index cannot be reached; whatever else it says is a fault of the requirements."""


def install(*words: str, pip: Sequence[str] = PIP) -> None:
    """Runs pip install; skips the test where no package index is reached, fails it where the requirements cannot be met."""
    done = subprocess.run([*pip, "install", "--no-compile", *words], capture_output=True, text=True, check=False)
    if done.returncode and UNREACHED.search(done.stderr):
        pytest.skip(f"no packages could be had: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


def side_folder(folder: Path, requirement: str) -> Path:
    """A folder with one package and nothing that it needs, to stand first on sys.path."""
    install("--no-deps", "--target", str(folder), requirement)
    return folder


def requirements(*extras: str) -> list[str]:
    """What pyproject.toml asks for, and these extras of it."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]


def lowest(lines: Sequence[str], python: str) -> list[str]:
    """Each requirement at its lowest version, for those that hold in a Python such as `3.12`."""
    from packaging.requirements import Requirement

    found = {}
    for wanted in map(Requirement, lines):
        if wanted.marker is None or wanted.marker.evaluate({"python_version": python}):
            (least,) = (part.version for part in wanted.specifier if part.operator == ">=")
            found[wanted.name] = least
    return [f"{name}=={version}" for name, version in found.items()]


def python_of(version: str) -> Path:
    """The program of a Python such as `3.12`; skips the test where it is not installed."""
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return Path(sys.executable)
    places = [shutil.which(f"python{version}"), *Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python")]
    for place in places:
        told = place and subprocess.run(
            [place, "-c", "import sys, venv; print(sys.executable)"], capture_output=True, text=True
        )
        if told and told.returncode == 0:
            return Path(told.stdout.strip())
    pytest.skip(f"Python {version} is not installed")


def make_venv(python: Path, folder: Path, wanted: Sequence[str]) -> Path:
    """A virtual environment with these requirements and this checkout of edgebert. Returns its Python."""
    subprocess.run([str(python), "-m", "venv", "--without-pip", str(folder)], check=True)
    made = folder / "bin" / "python"
    install(*wanted, pip=(*PIP, "--python", str(made)))
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "edgebert.pth").write_text(f"{CHECKOUT}\n")
    return made


def edgebert(python: Path, *words: object, cwd: Path, side: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command of edgebert with another Python, or with the packages of a side folder before its own."""
    script = "import sys\nif sys.argv[1]:\n    sys.path.insert(0, sys.argv[1])\ndel sys.argv[1]\n"
    script += "from edgebert.cli.main import main\nmain()\n"
    command = [str(python), "-c", script, str(side or ""), *map(str, words)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
