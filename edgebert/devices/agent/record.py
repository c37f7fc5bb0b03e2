"""Record: what is known of one slot beside its bundle: which variant was chosen there, who vouches for it, since when."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError

from edgebert.bundle.device_folder import Root, SlotName
from edgebert.core.strict import Frozen
from edgebert.devices.agent.protocol import Sha256
from edgebert.errors import BundleError


class Record(Frozen):
    """The whole of slots/a.json."""

    schema_version: Literal[1] = 1
    bundle: str
    """Name of the bundle."""
    manifest: Sha256
    """Of its edgebert.json."""
    variant: str
    """The one that was chosen on this device."""
    p50_ms: float | None = Field(ge=0)
    signed_by: str
    """Fingerprint of the key, identity of the certificate, or `unsigned`."""
    installed: str
    """When, by this device's clock, which may be wrong; nothing is decided by it."""


def read_record(root: Root, slot: SlotName) -> Record:
    """Reads a slot's record.

    Raises:
        BundleError: there is none, or it is not one.
    """
    file = root.record(slot)
    try:
        return Record.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"Slot {slot} has no record.", hint="Ship the bundle again.") from error
    except OSError as error:
        raise BundleError(f"The record {file} cannot be read: {error.strerror}.", hint="Ship the bundle again.") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(
            f"The record {file} is damaged: {f'{where}: ' if where else ''}{first['msg']}.", hint="Ship the bundle again."
        ) from error
