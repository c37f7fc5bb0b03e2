"""Layout: a bundle put together from contents that are on the device, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from edgebert.bundle.device_folder import Root
from edgebert.devices.agent import contents
from edgebert.devices.agent.disk import require
from edgebert.devices.agent.durable import sync
from edgebert.devices.agent.incoming import whole
from edgebert.devices.agent.protocol import Wanted
from edgebert.errors import DeviceError

READ_ONLY = 0o444


def lay_out(root: Root, files: Mapping[str, Wanted], folder: Path) -> None:
    """Writes the bundle into a new folder, on the disk when it returns. Files are links to their contents where they can be.

    Raises:
        DeviceError: a content is not here.
        StoreError: there is no room for a copy.
        OSError: something cannot be written.
    """
    sources = _sources(root, files)
    folder.mkdir()
    for path, item in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(sources[item.sha256], target, item.size)
    for parent, _, _ in os.walk(folder):
        sync(Path(parent))


def _sources(root: Root, files: Mapping[str, Wanted]) -> dict[str, Path]:
    sizes = {item.sha256: item.size for item in files.values()}
    arrived = {sha256 for sha256, size in sizes.items() if contents.regular_size(whole(root, sha256)) == size}
    found = contents.in_slots(root, {sha256: size for sha256, size in sizes.items() if sha256 not in arrived})
    found |= {sha256: whole(root, sha256) for sha256 in arrived}
    lacking = [path for path, item in files.items() if item.sha256 not in found]
    if lacking:
        raise DeviceError(
            f"{len(lacking)} of {len(files)} files are not on the device: {lacking[0]}"
            f"{' and others' if len(lacking) > 1 else ''}.",
            hint="Ship again: what is missing is sent.",
        )
    return found


def _place(source: Path, target: Path, size: int) -> None:
    """A second name of the same file, else a copy: some file systems have no such links, and some files are another user's."""
    try:
        target.hardlink_to(source)
        if stat.S_IMODE(target.stat().st_mode) != READ_ONLY:
            target.chmod(READ_ONLY)
    except FileExistsError:  # two names that this file system does not tell apart
        raise
    except OSError:
        target.unlink(missing_ok=True)
        require(target.parent, size)
        shutil.copyfile(source, target, follow_symlinks=False)
        target.chmod(READ_ONLY)
    sync(target)
