"""A wheel of the edgebert that runs here: devices get just this one, and no index is asked for a package of that name."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import zipfile
from pathlib import Path, PurePosixPath

from edgebert.devices.setup.wheels import MAKE_OWN
from edgebert.errors import InputError

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
