"""An error that nobody foresaw, with one device: it is told as that device's, and the others go on."""

from __future__ import annotations

import os
import traceback

from edgebert.errors import DeviceError


def own_fault(error: Exception) -> DeviceError:
    """What to say of it. With EDGEBERT_DEBUG its trace is shown."""
    if os.environ.get("EDGEBERT_DEBUG"):
        traceback.print_exception(error)
    hint = "This is a fault in edgebert. EDGEBERT_DEBUG=1 shows where."
    return DeviceError(f"{type(error).__name__}: {error}", hint=hint)
