"""Facts, which the checks read, and Diagnosis, which each check returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgebert.measure.doctor.trial import WorkloadTrial
from edgebert.measure.machine.cores import Topology
from edgebert.measure.machine.heat import DEFAULT_LIMIT_C
from edgebert.report.environment import Environment, MachineState

Level = Literal["ok", "note", "unstable"]
NOT_TOLD = "the system does not say"


@dataclass(frozen=True)
class Facts:
    """Everything that the checks are functions of."""

    environment: Environment
    before: MachineState = field(default_factory=MachineState)
    after: MachineState = field(default_factory=MachineState)
    """State after the trial."""
    topology: Topology = field(default_factory=Topology)
    seconds: float = 1.0
    """Seconds from `before` to `after`."""
    own_seconds: float = 0.0
    """CPU seconds that edgebert itself used in between."""
    ticks_per_second: int = 100
    limit_c: float = DEFAULT_LIMIT_C
    energy: Literal["readable", "forbidden", "absent"] = "absent"
    trial: WorkloadTrial | None = None
    threads: int = 1
    """Threads that a model is to be measured with."""

    @property
    def all_cores(self) -> int:
        """Number of cores of the machine, whether this process may use them or not."""
        return len(self.topology.online) or self.environment.cores


@dataclass(frozen=True)
class Diagnosis:
    """One line of the doctor's answer."""

    name: str
    level: Level
    seen: str
    why: str = ""
    """Why it matters for what is measured."""
    mend: str = ""
    """The command or setting that would change it; empty where nothing would."""
