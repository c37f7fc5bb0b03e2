"""Wheels that are brought to a device, because it has no network or its index no edgebert."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from edgebert.errors import InputError

_NAME = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-\d[^-]*)?-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl")
PART_BYTES = 1 << 20
MAKE_OWN = "pip wheel --no-deps -w wheels ."


@dataclass(frozen=True)
class Wheel:
    """One file of the folder, as its name describes it."""

    path: Path
    name: str
    version: str
    python: str
    abi: str
    platform: str

    def suits(self, machine: str, python: Sequence[int]) -> bool:
        """Whether it may be of use on a Linux of that kind. pip decides; this only keeps the others from travelling.

        Args:
            machine: x86_64, aarch64, ...
            python: version there.
        """
        if self.platform != "any" and not re.search(rf"linux.*_{re.escape(machine)}(\.|$)", self.platform):
            return False
        own = f"cp{python[0]}{python[1]}"
        tags = self.python.split(".")
        return any(tag.startswith("py") or tag == own for tag in tags) or "abi3" in self.abi.split(".")

    def sha256(self) -> str:
        """Hash of the file."""
        found = hashlib.sha256()
        with self.path.open("rb") as file:
            while part := file.read(PART_BYTES):
                found.update(part)
        return found.hexdigest()


@dataclass(frozen=True)
class Wheels:
    """Those of a folder, or none."""

    wheels: tuple[Wheel, ...]

    @property
    def own(self) -> Wheel | None:
        """That of edgebert itself."""
        return next((wheel for wheel in self.wheels if wheel.name == "edgebert"), None)

    def with_own(self, file: Path) -> Wheels:
        """The same and that one of edgebert."""
        return replace(self, wheels=(*self.wheels, as_wheel(file)))

    def for_device(self, machine: str, python: Sequence[int]) -> tuple[Wheel, ...]:
        """Those that are worth sending."""
        return tuple(wheel for wheel in self.wheels if wheel.suits(machine, python))


def read_wheels(folder: Path, version: str) -> Wheels:
    """The wheels of a folder.

    Args:
        version: of edgebert, as it is here: both sides must speak one protocol.

    Raises:
        InputError: there are none, or edgebert's is of another version.
    """
    try:
        files = sorted(folder.glob("*.whl")) if folder.is_dir() else []
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}.") from error
    wheels = tuple(as_wheel(file) for file in files if _NAME.fullmatch(file.name))
    if not wheels:
        raise InputError(f"There are no wheels in {folder}.", hint=f"In edgebert's checkout: {MAKE_OWN}")
    found = Wheels(wheels)
    versions = [wheel.version for wheel in wheels if wheel.name == "edgebert"]
    if len(versions) > 1:
        raise InputError(f"{folder} holds {len(versions)} wheels of edgebert: {', '.join(versions)}.", hint="Leave one there.")
    if versions and versions[0] != version:
        raise InputError(
            f"{folder} holds edgebert {versions[0]}, and this is {version}.", hint=f"In edgebert's checkout: {MAKE_OWN}"
        )
    return found


def as_wheel(file: Path) -> Wheel:
    """A file that is named as wheels are."""
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


LEFT_BY_THE_INSTALLER = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""In the dist-info folder; they speak of an installation, and RECORD is written anew."""


EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every file: equal packages make equal wheels, which a device that has one does not install again."""


def make_own_wheel(folder: Path, distribution: importlib.metadata.Distribution | None = None) -> Path:
    """Packs the installed distribution, which is pure Python, into a wheel again; returns the file.

    Raises:
        InputError: it is an editable installation, whose files are elsewhere.
    """
    found = distribution or importlib.metadata.distribution("edgebert")
    files = {path.as_posix(): Path(str(path.locate())) for path in found.files or () if _belongs(path)}
    if "edgebert/__init__.py" not in files:
        raise InputError(
            "This edgebert is an editable installation, which cannot be brought along.",
            hint=f"Make its wheel in the checkout: {MAKE_OWN}\n  Then name it: edgebert devices setup … --wheels wheels",
        )
    target = folder / f"edgebert-{found.version}-py3-none-any.whl"
    record: list[str] = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, place in sorted(files.items()):
            data = place.read_bytes()
            _add(wheel, name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}\n")
        info = f"edgebert-{found.version}.dist-info/RECORD"
        _add(wheel, info, "".join([*record, f"{info},,\n"]).encode())
    return target


def _belongs(path: PurePosixPath) -> bool:
    """Scripts lie outside the package (`../../../bin/edgebert`) and are made where a wheel is installed, as byte code is."""
    inside = ".." not in path.parts and "__pycache__" not in path.parts
    return inside and not (path.parts[0].endswith(".dist-info") and path.name in LEFT_BY_THE_INSTALLER)


def _add(wheel: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    wheel.writestr(entry, data)
