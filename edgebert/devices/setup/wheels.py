"""Wheels that are sent to a device because it has no network, or because its package index has no edgebert."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from edgebert.core.store import hash_file
from edgebert.errors import InputError

_NAME = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-\d[^-]*)?-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl")
MAKE_OWN = "pip wheel --no-deps -w wheels ."
LEFT_BY_THE_INSTALLER = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""Files of a dist-info folder that describe an installation; RECORD is written anew."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every file: equal packages make equal wheels, which a device that has one does not install again."""


@dataclass(frozen=True)
class Wheel:
    """One wheel, as its file name describes it."""

    path: Path
    name: str
    version: str
    python: str
    abi: str
    platform: str

    def suits(self, machine: str, python: Sequence[int]) -> bool:
        """Whether pip may use it on such a Linux. pip decides; this only avoids sending the others.

        Args:
            machine: x86_64, aarch64, ...
            python: version of Python there.
        """
        if self.platform != "any" and not re.search(rf"linux.*_{re.escape(machine)}(\.|$)", self.platform):
            return False
        own = f"cp{python[0]}{python[1]}"
        tags = self.python.split(".")
        return any(tag.startswith("py") or tag == own for tag in tags) or "abi3" in self.abi.split(".")

    def sha256(self) -> str:
        """Hash of the file."""
        return hash_file(self.path)


@dataclass(frozen=True)
class Wheels:
    """The wheels of a folder, or none."""

    wheels: tuple[Wheel, ...]

    @property
    def own(self) -> Wheel | None:
        """edgebert's own wheel; None where there is none."""
        return next((wheel for wheel in self.wheels if wheel.name == "edgebert"), None)

    def with_own(self, file: Path) -> Wheels:
        """These wheels and edgebert's own."""
        return replace(self, wheels=(*self.wheels, as_wheel(file)))

    def for_device(self, machine: str, python: Sequence[int]) -> tuple[Wheel, ...]:
        """The wheels that the device may use."""
        return tuple(wheel for wheel in self.wheels if wheel.suits(machine, python))


def read_wheels(folder: Path, version: str) -> Wheels:
    """The wheels of a folder.

    Args:
        version: version of edgebert here; both sides must speak the same protocol.

    Raises:
        InputError: there are none, or edgebert's own is of another version.
    """
    try:
        files = sorted(folder.glob("*.whl")) if folder.is_dir() else []
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}.") from error
    wheels = tuple(as_wheel(file) for file in files if _NAME.fullmatch(file.name))
    if not wheels:
        raise InputError(f"There are no wheels in {folder}.", hint=f"In edgebert's checkout: {MAKE_OWN}")
    versions = [wheel.version for wheel in wheels if wheel.name == "edgebert"]
    if len(versions) > 1:
        raise InputError(f"{folder} holds {len(versions)} wheels of edgebert: {', '.join(versions)}.", hint="Leave one there.")
    if versions and versions[0] != version:
        raise InputError(
            f"{folder} holds edgebert {versions[0]}, and this is {version}.", hint=f"In edgebert's checkout: {MAKE_OWN}"
        )
    return Wheels(wheels)


def as_wheel(file: Path) -> Wheel:
    """Parses the name of a wheel's file."""
    match = _NAME.fullmatch(file.name)
    assert match, file
    return Wheel(file, **{**match.groupdict(), "name": match["name"].lower().replace("_", "-")})


def download_command(machine: str, python: Sequence[int], version: str, *, extras: str = "") -> str:
    """The command that fetches all wheels for a device, on a machine of any kind that has a network."""
    platforms = " ".join(f"--platform {tag}_{machine}" for tag in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"))
    return (
        f"pip download -d wheels --only-binary=:all: {platforms} --python-version {python[0]}.{python[1]} "
        f"'wheels/edgebert-{version}-py3-none-any.whl{extras}'"
    )


def make_own_wheel(folder: Path, distribution: importlib.metadata.Distribution | None = None) -> Path:
    """Packs the installed distribution, which is pure Python, into a wheel again; returns its file.

    Raises:
        InputError: it is an editable installation, whose files are elsewhere.
    """
    installed = distribution or importlib.metadata.distribution("edgebert")
    files = {path.as_posix(): Path(str(path.locate())) for path in installed.files or () if _belongs(path)}
    if "edgebert/__init__.py" not in files:
        raise InputError(
            "This edgebert is an editable installation, which cannot be brought along.",
            hint=f"Make its wheel in the checkout: {MAKE_OWN}\n  Then name it: edgebert devices setup … --wheels wheels",
        )
    target = folder / f"edgebert-{installed.version}-py3-none-any.whl"
    record: list[str] = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, path in sorted(files.items()):
            data = path.read_bytes()
            _add(wheel, name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}\n")
        info = f"edgebert-{installed.version}.dist-info/RECORD"
        _add(wheel, info, "".join([*record, f"{info},,\n"]).encode())
    return target


def _belongs(path: PurePosixPath) -> bool:
    """Whether a file belongs into the wheel. Scripts (`../../../bin/edgebert`) and byte code are made where it is installed."""
    inside = ".." not in path.parts and "__pycache__" not in path.parts
    return inside and not (path.parts[0].endswith(".dist-info") and path.name in LEFT_BY_THE_INSTALLER)


def _add(wheel: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    wheel.writestr(entry, data)
