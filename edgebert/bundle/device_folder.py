"""The folder on a device that holds its slots, and which slot serves. Every load imports this module, so it has few imports.

edgebert-device.json   marks the folder as a device's folder
slots/a/  slots/b/     bundles; slots/a.json and slots/b.json are their records
current                link to slots/a or slots/b: the only thing that a switch changes
incoming/              files that arrived, named by their sha256, and `.part` files of unfinished transfers
staging/               a bundle that is being put together and tried
reports/               reports of the trials on this device
switching              exists while slots are exchanged; says what to undo
lock                   locked by the agent that works here
venv/  wheels/         made by `edgebert devices setup`
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Literal

from edgebert.errors import BundleError, DeviceError

SlotName = Literal["a", "b"]
SLOTS: tuple[SlotName, SlotName] = ("a", "b")
MARKER = "edgebert-device.json"
LAYOUT = 1
OURS = (
    "slots",
    "current",
    "incoming",
    "staging",
    "reports",
    "switching",
    "lock",
    "venv",
    "venv.new",
    "venv.old",
    "wheels",
    f".{MARKER}.draft",
)
"""Names that a root may hold before it has its marker: setup comes first, and a process may be killed before it writes it."""
MANIFEST = "edgebert.json"


class Root:
    """Paths in a device's folder. Making a Root reads nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marker = folder / MARKER
        """File that marks the folder as a device's folder."""
        self.slots = folder / "slots"
        """Folder of both slots and their records."""
        self.current = folder / "current"
        """Link to the slot that serves."""
        self.incoming = folder / "incoming"
        """Folder of files that arrived."""
        self.staging = folder / "staging"
        """Folder of the bundle that is being put together."""
        self.reports = folder / "reports"
        """Folder of the reports of trials on this device."""
        self.journal = folder / "switching"
        """File that exists while slots are exchanged."""
        self.lock = folder / "lock"
        """File that the agent locks while it works."""

    def slot(self, name: SlotName) -> Path:
        """Folder of one slot's bundle."""
        return self.slots / name

    def record(self, name: SlotName) -> Path:
        """File of one slot's record."""
        return self.slots / f"{name}.json"

    def linked(self) -> SlotName | None:
        """The slot that `current` names, filled or not; None if there is no link.

        Raises:
            DeviceError: `current` is not a link to a slot.
        """
        try:
            target = str(self.current.readlink())
        except FileNotFoundError:
            return None
        except OSError:
            target = ""
        for name in SLOTS:
            if target == link_to(name):
                return name
        raise DeviceError(
            f"{self.current} is no link to a slot.", hint="Move it away; the next `edgebert ship` makes the link again."
        )

    def serving(self) -> SlotName | None:
        """The slot that serves; None if none does."""
        name = self.linked()
        return name if name and (self.slot(name) / MANIFEST).is_file() else None


def link_to(name: SlotName) -> str:
    """Target of the link `current` while that slot serves. Relative, so that a root can be moved."""
    return f"slots/{name}"


def other(name: SlotName) -> SlotName:
    """The other slot."""
    return "b" if name == "a" else "a"


def locate(text: str) -> Root:
    """The root at a path; a relative path counts from the user's home. No folder is made.

    Raises:
        DeviceError: no folder can have that path.
    """
    try:
        folder = (Path.home() / Path(text).expanduser()).resolve()
        folder.lstat()
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeviceError(f"{text[:80]!r} cannot be the folder of the slots: {reason}.", hint="Name another root.") from error
    return Root(folder)


def check_marker(root: Root) -> bool:
    """Whether the folder exists and is a root.

    Raises:
        DeviceError: it holds other files, is damaged, or was made by a newer edgebert.
    """
    try:
        content = json.loads(root.marker.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return _check_unmarked(root)
    except OSError as error:
        raise DeviceError(f"{root.marker} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError):
        content = None
    layout = content.get("layout") if isinstance(content, dict) else None
    if not isinstance(layout, int) or layout < 1:
        if _is_in_use(root):
            return False  # the slots and the link show that it is a root; the next agent writes the marker again
        raise DeviceError(
            f"{root.marker} is damaged.", hint=f'If the folder holds slots, write {{"layout": {LAYOUT}}} into it.'
        )
    if layout > LAYOUT:
        raise DeviceError(
            f"{root.folder} was laid out by a newer edgebert (layout {layout}; this one knows {LAYOUT}).",
            hint="Update edgebert on the device: edgebert devices setup",
        )
    return True


def _is_in_use(root: Root) -> bool:
    try:
        return root.serving() is not None
    except DeviceError:
        return False


def _check_unmarked(root: Root) -> bool:
    if not os.path.lexists(root.folder):
        return False
    if not root.folder.is_dir():
        raise DeviceError(f"{root.folder} is not a folder.", hint="Name another root.")
    strange = sorted(file.name for file in root.folder.iterdir() if file.name not in OURS)
    if strange:
        raise DeviceError(
            f"{root.folder} holds something else ({strange[0]}), so it is not used for slots.",
            hint="Name an empty folder, or one that is not there yet, as the root.",
        )
    return False


def resolve(path: Path) -> tuple[Path, str | None]:
    """The bundle at a path, and the variant that the device chose for it.

    Args:
        path: a device's root, its `current`, or a bundle. The link is read once, so a switch does not change the result.

    Returns:
        For a slot: its folder and the name of its variant. For a plain bundle: the path, and None.

    Raises:
        BundleError: the device serves no model, or the slot's record is for another bundle.
        DeviceError: the root was made by a newer edgebert.
    """
    root = Root(path)
    if is_file(root.marker):
        check_marker(root)
        name = root.serving()
        if name is None:
            raise BundleError(f"{path} is a device's folder, and no model serves there yet.", hint="Ship one: edgebert ship")
        folder = Path(os.path.realpath(root.folder)) / link_to(name)
    else:
        try:
            folder = Path(os.path.realpath(path))
        except (OSError, ValueError):  # a name that no file can have; reading the bundle reports it
            return path, None
    root = Root(folder.parent.parent)
    if folder.name not in SLOTS or folder.parent.name != "slots" or not is_file(root.marker):
        return path, None
    check_marker(root)
    return folder, _chosen_variant(folder, root.slots / f"{folder.name}.json")


def is_file(path: Path) -> bool:
    """Whether there is a file at a path; also for names that no file can have, where Path.is_file may raise."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _chosen_variant(folder: Path, record: Path) -> str:
    """The variant in a slot's record, which must be for this bundle."""
    try:
        content = json.loads(record.read_bytes())
        manifest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
        cause = None
    except (OSError, ValueError, RecursionError) as error:
        content, manifest, cause = None, "", error
    variant = content.get("variant") if isinstance(content, dict) and content.get("manifest") == manifest else None
    if not isinstance(variant, str):
        raise BundleError(
            f"The record of {folder} is missing or of another bundle, so the variant that was chosen for it is not known.",
            hint="Ship the bundle again, or go back: edgebert rollback",
        ) from cause
    return variant
