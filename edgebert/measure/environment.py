"""The machine and the libraries that a measurement happened on."""

from __future__ import annotations

import os
import platform

from pydantic import BaseModel, ConfigDict

from edgebert import __version__
from edgebert.artifact import hash_json
from edgebert.packages import package_version
from edgebert.runtimes.isa import host_cpu

PACKAGES = (
    "edgebert",
    "numpy",
    "onnxruntime",
    "openvino",
    "tokenizers",
    "torch",
    "transformers",
    "onnx",
    "nncf",
    "optimum",
)


class MachineState(BaseModel):
    """What changes while measuring. None, or empty, where the system does not say."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    load_average: float | None = None
    """Over the last minute."""
    frequencies_mhz: tuple[float, ...] = ()
    """Of each core, now."""
    temperature_c: float | None = None
    """Of the hottest zone of the CPU."""
    throttle_count: int | None = None
    """Times that the CPU throttled since it was started, all cores."""
    quota_throttled_us: int | None = None
    """Time that the cgroup's CPU quota held its processes back."""
    stolen_ticks: int | None = None
    """Clock ticks that the hypervisor gave to others, all cores."""
    available_bytes: int | None = None
    """Memory that can still be had."""


class Environment(BaseModel):
    """Where a measurement was taken."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
    threads_per_core: int | None = None
    governor: str | None = None
    """Of the frequency; `mixed` where cores differ."""
    turbo: bool | None = None
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
    before: MachineState | None = None
    after: MachineState | None = None
    """At the end of the measurements."""

    @property
    def fingerprint(self) -> str:
        """The same on the same machine with the same libraries; its load and its state do not count."""
        return hash_json(self.model_dump(mode="json", exclude={"load_average", "before", "after"}))


def read_environment() -> Environment:
    """Looks at this machine."""
    cpu = host_cpu()
    return Environment(
        cpu=cpu.model,
        isa=cpu.isas,
        cores=usable_cores(),
        machine=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages={name: version for name in PACKAGES if (version := _version(name)) != "none"},
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    )


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(name: str) -> str:
    return __version__ if name == "edgebert" else package_version(name)
