"""The switch: the slot that does not serve is exchanged for what was staged, and one rename of the link makes it serve.

A process may be killed between any two steps. Until the link is renamed the old bundle serves, untouched; after it the new
one does, whole. What is between is undone or finished by `recover`, which every request begins with: the journal says which
slot was being exchanged, the link whether it came to the switch.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from edgebert.bundle.device_folder import SLOTS, Root, SlotName, link_to, other
from edgebert.devices.agent.disk import remove, sync, write_durably
from edgebert.devices.agent.self_test import self_test
from edgebert.devices.agent.status import check_slot
from edgebert.errors import BundleError, DeviceError, EnvironmentFault, StoreError


@dataclass(frozen=True)
class Staged:
    """What a switch needs, ready on the same disk: it only renames."""

    bundle: Path
    record: Path
    link: Path


def idle_slot(root: Root) -> SlotName:
    """The slot to fill: never the one that the link names; without a link the first that is empty."""
    linked = root.linked()
    if linked:
        return other(linked)
    return next((name for name in SLOTS if not root.slot(name).exists()), "a")


def make_link(place: Path, slot: SlotName) -> None:
    """The link that will become `current`.

    Raises:
        StoreError: the file system has no links.
    """
    try:
        place.symlink_to(link_to(slot))
    except OSError as error:
        raise StoreError(
            f"No link can be made in {place.parent}: {error.strerror}.", hint="Name a root on a file system that has links."
        ) from error
    sync(place.parent)


def exchange(root: Root, slot: SlotName, staged: Staged) -> None:
    """Puts what was staged into the idle slot and has it serve. Where that fails, both slots are as they were."""
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
    """Undoes an exchange that did not come to the switch, or clears away what it replaced. Does nothing where there was none.

    It may be killed as well and begins again then.
    """
    if not os.path.lexists(root.journal):
        return
    known = _read_journal(root)
    for slot in (known[0],) if known else SLOTS:
        if root.linked() != slot:
            _put_back(root, slot, *(known[1] if known else (_has_record(root, slot), True)))
        for old in _aside(root, slot):
            remove(old)
    sync(root.slots)
    remove(root.journal)
    sync(root.folder)


def _has_record(root: Root, slot: SlotName) -> bool:
    """Where it is unknown what a slot had: what was set aside comes back, and a bundle without a record was half put in."""
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
    for place, old, had in zip((root.slot(slot), root.record(slot)), _aside(root, slot), (had_bundle, had_record), strict=True):
        if os.path.lexists(old):
            remove(place)
            old.rename(place)
        elif not had:
            remove(place)
    sync(root.slots)


def _set_aside(root: Root, slot: SlotName) -> None:
    for place, old in zip((root.slot(slot), root.record(slot)), _aside(root, slot), strict=True):
        if os.path.lexists(place):
            place.rename(old)
    sync(root.slots)


def _aside(root: Root, slot: SlotName) -> tuple[Path, Path]:
    return root.slots / f"{slot}.old", root.slots / f"{slot}.old.json"


def roll_back(root: Root) -> None:
    """Switches to the other slot; nothing else changes.

    Raises:
        DeviceError: nothing serves, or there is no other bundle.
        BundleError: the other bundle is not whole, is not trusted, or answers otherwise here than it should.
    """
    serving = root.linked()
    if serving is None:
        raise DeviceError(f"Nothing serves in {root.folder}, so there is nothing to go back from.", hint="Ship a bundle first.")
    slot = other(serving)
    if not root.slot(slot).exists():
        raise DeviceError(
            f"There is no other bundle in {root.folder} to go back to.",
            hint="Only one was ever shipped; ship the one you want.",
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
        found = check_slot(root, slot, thorough=True)
    except BundleError as error:  # or a TrustError
        raise type(error)(f"{cannot} {error.message}", hint=error.hint) from error
    except EnvironmentFault as error:
        raise EnvironmentFault(f"{cannot} {error.message}", hint=error.hint) from error
    state, reason = self_test(root.slot(slot), found.variant)
    if state != "ok":
        raise BundleError(f"{cannot} {found.variant.name}: {reason}.", hint="Ship the bundle again.")
