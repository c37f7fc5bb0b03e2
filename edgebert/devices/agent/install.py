"""Install: lays a bundle out beside the serving slot, checks it, tries it on this CPU, and switches where a variant passes.

Whatever fails, both slots and the link stay as they were.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from edgebert.bundle.device_folder import Root, SlotName
from edgebert.bundle.manifest import MANIFEST, BundleManifest, ManifestEntry
from edgebert.bundle.read import LEFT_BY_THE_HUB, read_signed_bundle
from edgebert.bundle.trust.envelope import SIGNATURE
from edgebert.core import interrupts
from edgebert.core.interrupts import Interruptible
from edgebert.core.store import hash_file
from edgebert.devices.agent import contents
from edgebert.devices.agent.contents import check_files
from edgebert.devices.agent.disk import remove, require, sync, write_durably
from edgebert.devices.agent.incoming import clear, whole
from edgebert.devices.agent.protocol import Install, Installed, RequestedFile
from edgebert.devices.agent.record import Record, keep_report
from edgebert.devices.agent.status import check_slot
from edgebert.devices.agent.switch import Staged, exchange, idle_slot, make_link
from edgebert.devices.agent.trial import VariantOutcome, hold_trial
from edgebert.devices.agent.wire import EventLines
from edgebert.errors import BundleError, DeviceError, EdgebertError
from edgebert.report.file import report_text

READ_ONLY = 0o444


def install(root: Root, request: Install, events: EventLines) -> Installed:
    """Installs a bundle whose contents have arrived.

    Raises:
        BundleError: the bundle is incomplete, not trusted, or its tokenizer makes other tokens here.
        DeviceError: a content is not on the device.
        StoreError: there is no space for the bundle.
        OSError: a file cannot be written.
        StageError: a measuring process failed.
    """
    files = check_files(request.files)
    if strange := next((path for path in files if path.split("/")[0] in LEFT_BY_THE_HUB), None):
        raise BundleError(f"{strange} is no part of a bundle.")
    slot = root.serving()
    if slot and (served := _serves(root, slot, files, events)):
        return Installed(outcome="unchanged", slot=slot, variant=served.name, tried=(), reasons=(), report=None)
    try:
        root.staging.mkdir()
        return _install(root, request, files, events)
    finally:
        remove(root.staging)


def _serves(root: Root, slot: SlotName, files: Mapping[str, RequestedFile], events: EventLines) -> ManifestEntry | None:
    """The serving variant, if this bundle serves already and is undamaged; else None: a damaged one is laid out again."""
    folder = root.slot(slot)
    if any(_hash(folder / name) != (files[name].sha256 if name in files else None) for name in (MANIFEST, SIGNATURE)):
        return None
    try:
        return check_slot(root, slot, thorough=True)
    except EdgebertError as error:
        events.note(f"the serving bundle is damaged and laid out again: {error.message}")
        return None


def _hash(file: Path) -> str | None:
    try:
        return hash_file(file)
    except OSError:
        return None


def _install(root: Root, request: Install, files: Mapping[str, RequestedFile], events: EventLines) -> Installed:
    slot, progress = idle_slot(root), Interruptible(events)
    staged = Staged(root.staging / "bundle", root.staging / "record.json", root.staging / "current")
    make_link(staged.link, slot)
    with progress.step("lay out"):
        lay_out(root, files, staged.bundle)
    with progress.step("verify"):
        manifest, signer = read_signed_bundle(staged.bundle)
    outcome = hold_trial(staged.bundle, manifest, request.device, request.trial, progress)
    if outcome.report:
        keep_report(root, outcome.report, files[MANIFEST].sha256)
    if outcome.chosen is None:
        return _answer("refused", None, outcome)
    record = _record(manifest, files[MANIFEST].sha256, signer.identity, outcome)
    write_durably(staged.record, record.model_dump_json(indent=1) + "\n")
    if interrupts.asked():  # a library may have swallowed it
        raise KeyboardInterrupt
    exchange(root, slot, staged)
    with contextlib.suppress(OSError):  # the bundle serves: leftovers are no failure, the next installation clears them
        clear(root, {item.sha256 for item in files.values()})
    return _answer("switched", slot, outcome)


def _record(manifest: BundleManifest, sha256: str, signed_by: str, outcome: VariantOutcome) -> Record:
    assert outcome.chosen is not None
    return Record(
        bundle=manifest.name,
        manifest=sha256,
        variant=outcome.chosen.name,
        p50_ms=outcome.p50_ms,
        signed_by=signed_by,
        installed=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _answer(outcome: Literal["switched", "refused"], slot: SlotName | None, trial: VariantOutcome) -> Installed:
    return Installed(
        outcome=outcome,
        slot=slot,
        variant=trial.chosen.name if trial.chosen else None,
        tried=trial.tried,
        reasons=trial.reasons,
        report=json.loads(report_text(trial.report)) if trial.report else None,
    )


def lay_out(root: Root, files: Mapping[str, RequestedFile], folder: Path) -> None:
    """Writes the bundle into a new folder and flushes it to the disk. Files are hard links to their contents where possible.

    Raises:
        DeviceError: a content is not on the device.
        StoreError: there is no space for a copy.
        OSError: a file cannot be written.
    """
    sources = _sources(root, files)
    folder.mkdir()
    for path, item in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _link_or_copy(sources[item.sha256], target, item.size)
    for parent, _, _ in os.walk(folder):
        sync(Path(parent))


def _sources(root: Root, files: Mapping[str, RequestedFile]) -> dict[str, Path]:
    sizes = {item.sha256: item.size for item in files.values()}
    arrived = {sha256 for sha256, size in sizes.items() if contents.regular_size(whole(root, sha256)) == size}
    sources = contents.in_slots(root, {sha256: size for sha256, size in sizes.items() if sha256 not in arrived})
    sources |= {sha256: whole(root, sha256) for sha256 in arrived}
    lacking = [path for path, item in files.items() if item.sha256 not in sources]
    if lacking:
        raise DeviceError(
            f"{len(lacking)} of {len(files)} files are not on the device: {lacking[0]}"
            f"{' and others' if len(lacking) > 1 else ''}.",
            hint="Ship again: what is missing is sent.",
        )
    return sources


def _link_or_copy(source: Path, target: Path, size: int) -> None:
    """Makes a hard link, else a copy: some file systems have no hard links, and some files belong to another user."""
    try:
        target.hardlink_to(source)
        if stat.S_IMODE(target.stat().st_mode) != READ_ONLY:
            target.chmod(READ_ONLY)
    except FileExistsError:  # two names that this file system does not distinguish
        raise
    except OSError:
        target.unlink(missing_ok=True)
        require(target.parent, size)
        shutil.copyfile(source, target, follow_symlinks=False)
        target.chmod(READ_ONLY)
    sync(target)
