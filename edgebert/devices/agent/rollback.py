"""Rollback: the other slot serves again, once it was seen to be whole. A second rollback goes forward again."""

from __future__ import annotations

from edgebert.bundle.device_folder import Root, SlotName, other
from edgebert.devices.agent.durable import sync
from edgebert.devices.agent.remove import remove
from edgebert.devices.agent.self_test import self_test
from edgebert.devices.agent.slot_check import check_slot
from edgebert.devices.agent.switch import make_link, turn
from edgebert.errors import BundleError, DeviceError, EnvironmentFault


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
