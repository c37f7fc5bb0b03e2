"""The wheel of what runs here: what pip installed becomes a wheel that pip installs again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgebert.devices.setup.wheels import make_own_wheel
from edgebert.errors import InputError

INFO = "edgebert-0.1.0.dist-info"
FILES = {
    "edgebert/__init__.py": "word = 'here'\n",
    "edgebert/recipes/quickstart.yaml": "model: x\n",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: edgebert\nVersion: 0.1.0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/entry_points.txt": "[console_scripts]\nedgebert = edgebert:word\n",
}
OF_THE_INSTALLATION = {
    f"{INFO}/INSTALLER": "pip\n",
    f"{INFO}/direct_url.json": '{"url": "file:///somewhere"}',
    "edgebert/__pycache__/__init__.cpython-311.pyc": "",
}


def installed(folder: Path, files: dict[str, str]) -> importlib.metadata.Distribution:
    """A distribution as pip leaves it, with a script outside the package."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    record = [*files, f"{INFO}/RECORD", "../bin/edgebert"]
    (folder / INFO / "RECORD").write_text("".join(f"{name},,\n" for name in record))
    return importlib.metadata.Distribution.at(folder / INFO)


def test_what_is_installed_becomes_a_wheel_that_pip_takes(tmp_path: Path) -> None:
    found = make_own_wheel(tmp_path, installed(tmp_path / "site", {**FILES, **OF_THE_INSTALLATION}))
    assert found == tmp_path / "edgebert-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(found) as wheel:
        assert set(wheel.namelist()) == {*FILES, f"{INFO}/RECORD"}
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", tmp_path / "again", found], check=True)
    assert {name: (tmp_path / "again" / name).read_text() for name in FILES} == FILES


def test_equal_installations_make_equal_wheels(tmp_path: Path) -> None:
    hashes = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        wheel = make_own_wheel(tmp_path / name, installed(tmp_path / name / "site", FILES))
        hashes.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_an_editable_installation_is_refused_with_what_to_do(tmp_path: Path) -> None:
    editable = {name: text for name, text in FILES.items() if not name.startswith("edgebert/")}
    with pytest.raises(InputError, match="editable installation") as error:
        make_own_wheel(tmp_path, installed(tmp_path / "site", editable))
    assert "pip wheel --no-deps -w wheels ." in str(error.value.hint)
    assert list(tmp_path.glob("*.whl")) == []
