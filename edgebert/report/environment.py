"""The machine that a report's measurements happened on, and its state before and after them."""

from __future__ import annotations

from pydantic import Field

from edgebert.core.store import hash_json
from edgebert.core.strict import Frozen

NOT_THE_MACHINE = {"load_average", "before", "after", "memory_bytes", "variables"}
"""Fields that the fingerprint leaves out: state; memory, which virtual machines are given and lose while they run; and
variables, some of which libraries set as they are imported."""


class Environment(Frozen):
    """The machine and libraries of a measurement. A field is None, or empty, where the system does not report it."""

    cpu: str
    isa: tuple[str, ...]
    cores: int
    """Number of cores that this process may use."""
    machine: str
    system: str
    """Operating system with the kernel's version."""
    python: str
    packages: dict[str, str]
    load_average: float | None = None
    flags: tuple[str, ...] = ()
    """Features of the CPU, as the kernel names them."""
    core_kinds: tuple[str, ...] = ()
    """Kinds of cores: names of ARM parts, or Intel's performance and efficiency cores."""
    threads_per_core: int | None = None
    governor: str | None = None
    """Frequency governor; `mixed` where cores differ."""
    energy_preference: str | None = None
    """The CPU's own preference between speed and energy."""
    turbo: bool | None = None
    max_mhz: float | None = None
    """Highest frequency of any core."""
    isolated: tuple[int, ...] = ()
    """Numbers of the cores that the scheduler leaves alone."""
    boot_options: tuple[str, ...] = ()
    """Kernel parameters that change latencies."""
    huge_pages: str | None = None
    """Transparent huge pages: always, madvise or never."""
    autogroup: bool | None = None
    """Whether the scheduler divides time between sessions first and between processes second."""
    board: str | None = None
    """Name of the board or product."""
    virtual: bool | None = None
    """Whether this is a virtual machine."""
    clock: str | None = None
    """The kernel's clock source."""
    memory_bytes: int | None = None
    cpu_quota: float | None = None
    """Cores' worth of CPU time that the cgroup may use."""
    memory_limit_bytes: int | None = None
    """Memory limit of the cgroup."""
    variables: dict[str, str] = Field(default_factory=dict)
    """Environment variables that change how libraries compute. Paths keep their last part alone: reports are published."""
    before: MachineState | None = None
    after: MachineState | None = None

    @property
    def fingerprint(self) -> str:
        """Hash that is equal on the same machine with the same libraries; load and state do not count."""
        return hash_json(self.model_dump(mode="json", exclude=NOT_THE_MACHINE))


class MachineState(Frozen):
    """Readings that change during a measurement. A field is None, or empty, where the system does not report it."""

    load_average: float | None = None
    """Load average over the last minute."""
    frequencies_mhz: tuple[float, ...] = ()
    """Current frequency of each core."""
    temperature_c: float | None = None
    """Temperature of the hottest zone of the CPU."""
    throttle_count: int | None = None
    """Number of times that the CPU throttled since boot, summed over cores."""
    firmware_flags: int | None = None
    """Raspberry Pi's `get_throttled`."""
    capped: bool | None = None
    """Whether the kernel limits frequencies because of heat."""
    quota_throttled_us: int | None = None
    """Microseconds for which the cgroup's CPU quota held its processes back."""
    stolen_ticks: int | None = None
    """Clock ticks that the hypervisor gave to other guests, summed over cores."""
    busy_ticks: int | None = None
    """Clock ticks in which a core worked, summed over cores."""
    available_bytes: int | None = None
    """Memory that is still available."""
    swap_used_bytes: int | None = None
    swapped_pages: int | None = None
    """Pages read from swap and written to it since boot."""
    on_battery: bool | None = None
