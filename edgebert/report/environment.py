"""The machine that a report's measurements happened on, and its state before and after them."""

from __future__ import annotations

from pydantic import Field

from edgebert.core.store import hash_json
from edgebert.core.strict import Frozen

NOT_THE_MACHINE = {"load_average", "before", "after", "memory_bytes", "variables"}
"""Left out of the fingerprint: state; memory, which virtual machines are given and lose while they run; and variables,
some of which libraries set as they are imported."""


class Environment(Frozen):
    """Where a measurement was taken. None, or empty, where the system does not say."""

    cpu: str
    isa: tuple[str, ...]
    cores: int
    """That this process may use."""
    machine: str
    system: str
    """With the kernel's version."""
    python: str
    packages: dict[str, str]
    load_average: float | None = None
    flags: tuple[str, ...] = ()
    """Of the CPU, as the kernel names them."""
    core_kinds: tuple[str, ...] = ()
    """Names of its kinds of cores: of ARM's parts, or Intel's large and small ones."""
    threads_per_core: int | None = None
    governor: str | None = None
    """Of the frequency; `mixed` where cores differ."""
    energy_preference: str | None = None
    """How much speed the CPU itself gives up for energy."""
    turbo: bool | None = None
    max_mhz: float | None = None
    """Highest frequency of any core."""
    isolated: tuple[int, ...] = ()
    """Cores that the scheduler leaves alone."""
    boot_options: tuple[str, ...] = ()
    """Those of the kernel's parameters that change latencies."""
    huge_pages: str | None = None
    """Transparent ones: always, madvise or never."""
    autogroup: bool | None = None
    """Whether the scheduler shares time between sessions before it does between processes."""
    board: str | None = None
    """Name of the board or product."""
    virtual: bool | None = None
    """Whether this is a virtual machine."""
    clock: str | None = None
    """The kernel's clock source."""
    memory_bytes: int | None = None
    cpu_quota: float | None = None
    """Cores' worth of time that the cgroup may use."""
    memory_limit_bytes: int | None = None
    """Of the cgroup."""
    variables: dict[str, str] = Field(default_factory=dict)
    """Of the process, that change how libraries compute; of a path only its last part, for reports are given away."""
    before: MachineState | None = None
    after: MachineState | None = None
    """At the end of the measurements."""

    @property
    def fingerprint(self) -> str:
        """The same on the same machine with the same libraries; its load and its state do not count."""
        return hash_json(self.model_dump(mode="json", exclude=NOT_THE_MACHINE))


class MachineState(Frozen):
    """What changes while measuring. None, or empty, where the system does not say."""

    load_average: float | None = None
    """Over the last minute."""
    frequencies_mhz: tuple[float, ...] = ()
    """Of each core, now."""
    temperature_c: float | None = None
    """Of the hottest zone of the CPU."""
    throttle_count: int | None = None
    """Times that the CPU throttled since it was started, all cores."""
    firmware_flags: int | None = None
    """Raspberry Pi's `get_throttled`."""
    capped: bool | None = None
    """Whether the kernel holds frequencies down for their heat."""
    quota_throttled_us: int | None = None
    """Time that the cgroup's CPU quota held its processes back."""
    stolen_ticks: int | None = None
    """Clock ticks that the hypervisor gave to others, all cores."""
    busy_ticks: int | None = None
    """Clock ticks in which a core worked, all cores."""
    available_bytes: int | None = None
    """Memory that can still be had."""
    swap_used_bytes: int | None = None
    swapped_pages: int | None = None
    """Pages read from swap and written to it since the machine was started."""
    on_battery: bool | None = None
