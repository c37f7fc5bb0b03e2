"""Shared by the verbs for devices: the options that choose devices, and how a command works on them and ends."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Protocol

import typer

from edgebert.cli.common import JsonOption, QuietOption, print_result
from edgebert.core import interrupts

if TYPE_CHECKING:
    from edgebert.core.parallel_progress import ParallelProgress
    from edgebert.devices.targets import Chosen

LEFT = "`edgebert devices status` says what serves on each device."


class DeviceWork(Protocol):
    """Work on several devices. Its results, one for each device, can be read at any time."""

    @property
    def results(self) -> Sequence[Any]: ...

    def run(self) -> Coroutine[Any, Any, None]: ...


@dataclass(frozen=True)
class OnDevices:
    """The devices of a command, and how its progress and results are printed."""

    chosen: Chosen
    quiet: bool
    json_output: bool

    def run(
        self,
        start: Callable[[ParallelProgress], DeviceWork],
        data: Callable[[Sequence[Any]], Any],
        lines: Callable[[Sequence[Any]], Iterable[str]],
        *,
        exit_code: Callable[[Sequence[Any]], int] | None = None,
        left: str | None = None,
        left_after: Callable[[Sequence[Any]], str] | None = None,
    ) -> NoReturn:
        """Works on the devices, prints their results, and ends the command.

        Args:
            data: makes the JSON document of the results.
            lines: makes their table.
            exit_code: makes the exit code; by default the lowest of a device that failed.
            left: message about unfinished work, where a second Ctrl-C ends the command without a table.
            left_after: makes the message below the table, where the first Ctrl-C ended the work.
        """
        from edgebert.core.parallel_progress import open_parallel_progress
        from edgebert.devices.concurrently import lowest_exit_code

        with open_parallel_progress(quiet=self.quiet) as progress:
            work = start(progress)
            if left:
                interrupts.leave(left)
            finished = interrupts.finish(work.run())
        results = work.results
        print_result(self.json_output, lambda: data(results), lambda: lines(results))
        if finished:
            raise typer.Exit((exit_code or lowest_exit_code)(results))
        if left_after:
            interrupts.leave(left_after(results))
        raise KeyboardInterrupt


def _choose(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET", help="pi@kitchen, pi@kitchen:folder, ssh://pi@kitchen:2222, ./folder, or a name of the fleet."
        ),
    ] = None,
    fleet: Annotated[Path | None, typer.Option("--fleet", metavar="FILE", help="Devices by name: fleet.yaml.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="LABEL=VALUE", help="Devices of the fleet with that label. Repeatable."),
    ] = None,
    parallel: Annotated[
        int | None, typer.Option(min=1, max=64, help="Devices at a time. Default: what the fleet says, else 4.")
    ] = None,
    quiet: QuietOption = False,
    json_output: JsonOption = False,
) -> OnDevices:
    from edgebert.devices.targets import choose

    return OnDevices(choose(targets or (), fleet=fleet, only=only or (), parallel=parallel), quiet, json_output)


def for_devices(verb: Callable[..., None]) -> Callable[..., None]:
    """Adds the arguments and options of `_choose` to a verb, whose first parameter is the `OnDevices` that they make."""
    own, shared = (list(inspect.signature(item, eval_str=True).parameters.values()) for item in (verb, _choose))

    @functools.wraps(verb)
    def run(**values: Any) -> None:
        devices = _choose(**{item.name: values.pop(item.name) for item in shared})
        verb(devices, **values)

    parameters = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in (*own[1:], *shared)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # Typer reads both
    run.__annotations__ = {item.name: item.annotation for item in parameters}
    return run
