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


class Environment(BaseModel):
    """Where a measurement was taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: str
    isa: tuple[str, ...]
    cores: int
    machine: str
    system: str
    python: str
    packages: dict[str, str]
    load_average: float | None = None

    @property
    def fingerprint(self) -> str:
        """The same on the same machine with the same libraries; the load does not count."""
        return hash_json(self.model_dump(mode="json", exclude={"load_average"}))


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
