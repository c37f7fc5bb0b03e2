"""Switch: the staged bundle replaces the one in the idle slot, and one rename of the link makes it serve.

A process may be killed between any two steps. Until the link is renamed the old bundle serves, unchanged; after it the new
one does, complete. `recover`, with which every request begins, undoes or finishes the steps between: the journal names the
slot that was being exchanged, and the link shows whether the switch was made.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from edgebert.bundle.device_folder import SLOTS, Root, SlotName, link_to, other
from edgebert.devices.agent.disk import remove, sync, write_durably
from edgebert.devices.agent.record import SHIP_AGAIN
from edgebert.devices.agent.self_test import self_test
from edgebert.devices.agent.status import check_slot
from edgebert.errors import BundleError, DeviceError, EnvironmentFault, StoreError


@dataclass(frozen=True)
class Staged:
    """Paths of what a switch needs, on the disk of the slots: the switch only renames."""

    bundle: Path
    record: Path
    link: Path


def idle_slot(root: Root) -> SlotName:
    """The slot to fill: the one that the link does not name, or without a link the first empty one."""
    linked = root.linked()
    if linked:
        return other(linked)
    return next((name for name in SLOTS if not root.slot(name).exists()), "a")


def make_link(path: Path, slot: SlotName) -> None:
    """Makes the link that will become `current`.

    Raises:
        StoreError: the file system has no links.
    """
    try:
        path.symlink_to(link_to(slot))
    except OSError as error:
        raise StoreError(
            f"No link can be made in {path.parent}: {error.strerror}.", hint="Name a root on a file system that has links."
        ) from error
    sync(path.parent)


def exchange(root: Root, slot: SlotName, staged: Staged) -> None:
    """Moves the staged bundle into the idle slot and makes it serve. On failure both slots are as they were."""
    had = {"bundle": os.path.lexists(root.slot(slot)), "record": os.path.lexists(root.record(slot))}
    write_durably(root.journal, json.dumps({"slot": slot, "had": had}))
    try:
        _set_aside(root, slot)
        staged.bundle.rename(root.slot(slot))
        staged.record.rename(root.record(slot))
        sync(root.slots)
        turn(root, staged.link)
    finally:
        recover(root)


def turn(root: Root, link: Path) -> None:
    """The switch itself: the link is renamed over `current`."""
    link.replace(root.current)
    sync(root.folder)


def recover(root: Root) -> None:
    """Undoes an exchange that was cut before the switch, or removes what a finished one replaced. Without a journal it does
    nothing; if it is killed itself, the next call starts again.
    """
    if not os.path.lexists(root.journal):
        return
    journal = _read_journal(root)
    for slot in (journal[0],) if journal else SLOTS:
        if root.linked() != slot:
            _put_back(root, slot, *(journal[1] if journal else (_has_record(root, slot), True)))
        for old in _aside(root, slot):
            remove(old)
    sync(root.slots)
    remove(root.journal)
    sync(root.folder)


def _has_record(root: Root, slot: SlotName) -> bool:
    """Guesses, without a journal, whether the slot had a bundle: one that has a record, here or set aside, was complete."""
    return os.path.lexists(root.record(slot)) or os.path.lexists(_aside(root, slot)[1])


def _read_journal(root: Root) -> tuple[SlotName, tuple[bool, bool]] | None:
    """The slot that was being exchanged, and whether it had a bundle and a record; None where the journal is damaged."""
    try:
        journal = json.loads(root.journal.read_bytes())
        slot: SlotName = SLOTS[SLOTS.index(journal["slot"])]
        return slot, (bool(journal["had"]["bundle"]), bool(journal["had"]["record"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _put_back(root: Root, slot: SlotName, had_bundle: bool, had_record: bool) -> None:
    for path, old, had in zip((root.slot(slot), root.record(slot)), _aside(root, slot), (had_bundle, had_record), strict=True):
        if os.path.lexists(old):
            remove(path)
            old.rename(path)
        elif not had:
            remove(path)
    sync(root.slots)


def _set_aside(root: Root, slot: SlotName) -> None:
    for path, old in zip((root.slot(slot), root.record(slot)), _aside(root, slot), strict=True):
        if os.path.lexists(path):
            path.rename(old)
    sync(root.slots)


def _aside(root: Root, slot: SlotName) -> tuple[Path, Path]:
    return root.slots / f"{slot}.old", root.slots / f"{slot}.old.json"


def roll_back(root: Root) -> None:
    """Switches to the other slot; nothing else changes.

    Raises:
        DeviceError: nothing serves, or there is no other bundle.
        BundleError: the other bundle is damaged, not trusted, or fails its self-test here.
    """
    serving = root.linked()
    if serving is None:
        raise DeviceError(f"Nothing serves in {root.folder}, so there is nothing to go back from.", hint="Ship a bundle first.")
    slot = other(serving)
    if not root.slot(slot).exists():
        raise DeviceError(
            f"There is no other bundle in {root.folder} to go back to.",
            hint="Only one bundle was shipped so far; ship the one you want.",
        )
    _check(root, slot)
    root.staging.mkdir()
    try:
        make_link(root.staging / "current", slot)
        sync(root.slot(slot))
        turn(root, root.staging / "current")
    finally:
        remove(root.staging)


def _check(root: Root, slot: SlotName) -> None:
    cannot = f"Slot {slot} cannot serve, so the device stays as it is:"
    try:
        variant = check_slot(root, slot, thorough=True)
    except BundleError as error:  # or a TrustError
        raise type(error)(f"{cannot} {error.message}", hint=error.hint) from error
    except EnvironmentFault as error:
        raise EnvironmentFault(f"{cannot} {error.message}", hint=error.hint) from error
    state, reason = self_test(root.slot(slot), variant)
    if state != "ok":
        raise BundleError(f"{cannot} {variant.name}: {reason}.", hint=SHIP_AGAIN)
