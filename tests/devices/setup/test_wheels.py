"""Wheels that are sent to a device: which ones, and how edgebert's own is packed again from what is installed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgebert.devices.setup.wheels import as_wheel, download_command, make_own_wheel, read_wheels
from edgebert.errors import InputError

OWN = "edgebert-0.1.0-py3-none-any.whl"
NAMES = (
    OWN,
    "numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
    "numpy-2.4.6-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "numpy-2.4.6-cp311-cp311-musllinux_1_2_x86_64.whl",
    "numpy-2.4.6-cp311-cp311-macosx_14_0_arm64.whl",
    "numpy-2.4.6-cp311-cp311-win_amd64.whl",
    "tokenizers-0.23.3-cp310-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "typing_extensions-4.15.0-py3-none-any.whl",
    "six-1.17.0-py2.py3-none-any.whl",
    "built-1.0-1-py3-none-linux_x86_64.whl",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Wheels for several machines, and something that is none."""
    for name in (*NAMES, "notes.txt", "strange.whl"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_only_what_a_device_can_use_travels(folder: Path) -> None:
    wheels = read_wheels(folder, "0.1.0")
    names = {wheel.path.name for wheel in wheels.for_device("x86_64", [3, 11, 7])}
    assert names == {NAMES[0], NAMES[1], NAMES[4], *NAMES[7:]}
    names = {wheel.path.name for wheel in wheels.for_device("aarch64", [3, 11, 2])}
    assert names == {NAMES[0], NAMES[2], NAMES[8], NAMES[9]}
    assert wheels.own is not None and wheels.own.path.name == OWN


def test_a_folder_without_wheels_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "gone"):
        with pytest.raises(InputError, match="There are no wheels") as error:
            read_wheels(place, "0.1.0")
        assert "pip wheel --no-deps" in str(error.value.hint)


def test_a_wheel_of_another_version_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"holds edgebert 0\.1\.0, and this is 0\.2\.0"):
        read_wheels(folder, "0.2.0")
    (folder / "edgebert-0.2.0-py3-none-any.whl").touch()
    with pytest.raises(InputError, match="holds 2 wheels of edgebert"):
        read_wheels(folder, "0.2.0")


def test_edgebert_itself_may_be_missing_and_is_added(folder: Path) -> None:
    (folder / OWN).unlink()
    wheels = read_wheels(folder, "0.1.0")
    assert wheels.own is None
    assert wheels.with_own(folder / OWN).own == as_wheel(folder / OWN)


def test_the_command_that_fetches_wheels_names_the_device() -> None:
    command = download_command("aarch64", [3, 12, 1], "0.1.0", extras="[openvino]")
    assert "--platform manylinux_2_28_aarch64" in command and "--python-version 3.12" in command
    assert command.endswith("'wheels/edgebert-0.1.0-py3-none-any.whl[openvino]'")


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
    assert found == tmp_path / OWN
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
