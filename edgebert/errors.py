"""Every error that a user can meet, and its exit code.

    EdgebertError
    ├── InputError            exit 2: what the user wrote or passed
    │   ├── ProblemsError     a file that users write, all problems at once
    │   │   ├── RecipeError   the recipe
    │   │   └── FleetError    the fleet
    │   ├── SourceError       the model
    │   ├── DataError         a data file or data set
    │   └── BundleError       a bundle folder
    │       └── TrustError    it is not signed by a key that is trusted here
    └── EnvironmentFault      exit 3: the machine or its packages
        ├── MissingPackage    an extra that is not installed
        ├── StoreError        the store or the disk
        ├── StageError        a library failed inside a stage
        └── DeviceError       a device cannot be reached or used
            └── DeviceLost    the connection was lost; what arrived stays, and the same command goes on from there

A gate that fails is a verdict, not an error: it gives exit code 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXIT_OK = 0
EXIT_GATE_FAILED = 1
EXIT_INPUT = 2
EXIT_ENVIRONMENT = 3
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for Ctrl-C


class EdgebertError(Exception):
    """An error with a message for the user; `hint` says what to do next."""

    exit_code = EXIT_ENVIRONMENT

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class InputError(EdgebertError):
    """The user's input has to change."""

    exit_code = EXIT_INPUT


class SourceError(InputError):
    """The model cannot be found, read or used."""


class DataError(InputError):
    """A data file or data set cannot be used."""


class BundleError(InputError):
    """A folder is not a bundle, or a bundle is incomplete or was altered."""


class TrustError(BundleError):
    """A bundle is not signed, was altered after it was signed, or is signed by nobody who is trusted here."""


@dataclass(frozen=True)
class Problem:
    """One fault in a file: its path, what is wrong, and what would be right."""

    path: str
    message: str
    line: int | None = None
    suggestion: str | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        path = f"{self.path}: " if self.path else ""
        hint = f" {self.suggestion}" if self.suggestion else ""
        return f"{where}{path}{self.message}{hint}"


class ProblemsError(InputError):
    """Every problem of one file, in the order of its lines."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n  ".join([f"{source}: {count}", *map(str, self.problems)]))


class RecipeError(ProblemsError):
    """The recipe has to change."""


class FleetError(ProblemsError):
    """The file that names the devices has to change."""


class EnvironmentFault(EdgebertError):
    """The machine has to change, not the input."""

    exit_code = EXIT_ENVIRONMENT


class MissingPackage(EnvironmentFault):
    """A package that the work needs is not installed."""

    def __init__(self, package: str, *, needed_for: str, extra: str = "compress") -> None:
        super().__init__(
            f"{needed_for} needs the package {package}, which is not installed.",
            hint=f'Install it with: pip install "edgebert[{extra}]"',
        )


class StoreError(EnvironmentFault):
    """The store cannot be read or written."""


class StageError(EnvironmentFault):
    """A library failed inside a stage; the message names the stage."""


class DeviceError(EnvironmentFault):
    """A device cannot be reached or used."""


class DeviceLost(DeviceError):
    """The connection to the device was lost. What arrived there stays, and the device serves what it served before."""
