"""Results of `devices setup` and `devices check`: records, a table, and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgebert.core.text_table import aligned
from edgebert.devices.agent.protocol import About
from edgebert.devices.concurrently import NOTHING, hint_lines
from edgebert.devices.transport.base import Device
from edgebert.devices.transport.conversation import printable
from edgebert.errors import EXIT_ENVIRONMENT, EXIT_OK, EdgebertError

LONGEST_REASON = 1000


@dataclass(frozen=True)
class Reached:
    """Result of one device."""

    device: str
    state: Literal["ready", "installed", "unusable", "interrupted"]
    """ready: nothing had to be done. installed: edgebert was installed."""
    about: About | None = None
    trusts: bool | None = None
    """Whether it trusts this user's key; None where this user has none."""
    reason: str = ""
    hint: str | None = None
    exit_code: int = EXIT_OK

    @property
    def summary(self) -> str:
        """Last line of its progress."""
        return f"{self.state}: {self.reason}" if self.reason else self.state


def unusable(device: str, error: EdgebertError) -> Reached:
    """Result of a device that failed."""
    return Reached(
        device, "unusable", reason=printable(error.message, LONGEST_REASON), hint=error.hint, exit_code=error.exit_code
    )


def interrupted(device: str) -> Reached:
    """Result of a device whose work was stopped."""
    return Reached(device, "interrupted", reason="stopped")


def usable(device: Device, about: About, key: str | None, *, installed: bool = False) -> Reached:
    """Result of a device that answered.

    Args:
        key: fingerprint of this user's key.
    """
    trusts = None if key is None else key in about.trusted
    if not about.runtimes:
        again = f"Install it again: edgebert devices setup {device.target}"
        return Reached(device.name, "unusable", about, trusts, "it has no runtime", again, EXIT_ENVIRONMENT)
    reason = "it does not trust your key" if trusts is False else ""
    hint = f"edgebert devices setup {device.target} lets it trust your key." if trusts is False else None
    return Reached(device.name, "installed" if installed else "ready", about, trusts, reason, hint)


def lines(results: Sequence[Reached]) -> list[str]:
    """A row for each device, and below the hints for those that cannot be used."""
    rows = [["device", "state", "edgebert", "python", "machine", "cpu", "ISAs", "runtimes", "free GB", "your key", "reason"]]
    rows += [_row(item) for item in results]
    return [*aligned(rows), *hint_lines(item.hint for item in results)]


def data(results: Sequence[Reached]) -> list[dict[str, Any]]:
    """The results for `--json`."""
    return [
        {
            "device": item.device,
            "state": item.state,
            "about": item.about and item.about.model_dump(mode="json"),
            "trusts_your_key": item.trusts,
            "reason": item.reason,
            "hint": item.hint,
        }
        for item in results
    ]


def _row(item: Reached) -> list[str]:
    about = item.about
    if about is None:
        return [item.device, item.state, *[NOTHING] * 8, item.reason]
    return [
        item.device,
        item.state,
        about.edgebert_version,
        about.python,
        about.machine,
        about.cpu,
        ",".join(about.isas) or NOTHING,
        ", ".join(f"{name} {version}" for name, version in about.runtimes.items()) or NOTHING,
        f"{about.free_bytes / 1e9:.1f}",
        {True: "trusted", False: "not trusted", None: NOTHING}[item.trusts],
        item.reason,
    ]
