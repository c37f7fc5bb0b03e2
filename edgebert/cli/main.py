"""The command line: registers the verbs, and maps errors to messages and exit codes. Verbs import heavy packages inside.

Exit codes: 0 done and passed, 1 a gate failed, 2 the recipe or input has to change, 3 the environment has to change,
130 interrupted, 143 and 129 ended by SIGTERM and SIGHUP. Results go to standard output, progress and errors to standard error.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import Annotated, NoReturn

import typer

from edgebert.cli.bench import bench
from edgebert.cli.common import visible
from edgebert.cli.compare import compare
from edgebert.cli.compress import compress
from edgebert.cli.convert import convert
from edgebert.cli.devices import app as devices_app
from edgebert.cli.doctor import doctor
from edgebert.cli.init import init
from edgebert.cli.keys import app as keys_app
from edgebert.cli.plan import plan
from edgebert.cli.report import report
from edgebert.cli.rollback import rollback
from edgebert.cli.run import run_bundle
from edgebert.cli.schema import schema
from edgebert.cli.ship import ship
from edgebert.cli.store import store_app
from edgebert.cli.streams import drop, guarded, output_fault, reader_left
from edgebert.cli.validate import validate
from edgebert.cli.verify import verify
from edgebert.core import interrupts
from edgebert.core.faults import folder_fault, machine_fault
from edgebert.core.threads import require_threads
from edgebert.errors import EXIT_ENVIRONMENT, EXIT_INPUT, EXIT_INTERRUPTED, EdgebertError, EnvironmentFault

app = typer.Typer(
    name="edgebert",
    help="Turns a fine-tuned BERT into the fastest INT8 model that still passes your accuracy gate, and proves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(store_app, name="store")
app.add_typer(keys_app, name="keys")
app.add_typer(devices_app, name="devices")
for verb in (compress, plan, validate, schema, init, convert, verify, compare, report, bench, doctor, ship, rollback):
    app.command()(verb)
app.command("run")(run_bundle)
WITHOUT_THREADS = ("store", "keys", "devices", "rollback")
"""Verbs that import no library that starts threads by itself."""


def _version(show: bool) -> None:
    if show:
        from edgebert.version import __version__

        typer.echo(f"edgebert {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Prints the version.")] = False,
) -> None:
    """Options before the verb."""
    if context.invoked_subcommand not in WITHOUT_THREADS:
        require_threads()


def main() -> None:
    """Entry point: maps every error to its message and exit code."""
    with guarded() as fault:
        interrupts.listen()
        if fault:
            _fail(fault)
        _run()


def entry() -> None:
    """`edgebert` as a process of its own, which ends with the exit code of `main` also after an interrupt.

    Python ends itself with SIGINT, whatever the exit code, where a KeyboardInterrupt once left the code of an `exec`. Libraries
    run some while they are imported: `exec` makes the methods of every dataclass.
    """
    try:
        main()
    except SystemExit as end:
        if interrupts.asked():
            atexit._run_exitfuncs()
            with contextlib.suppress(OSError, ValueError):  # an output that nobody reads, or that is closed
                sys.stdout.flush()
            os._exit(end.code if isinstance(end.code, int) else 0)
        raise


def _run() -> None:
    try:
        code = app(prog_name="edgebert", standalone_mode=False)
    except EdgebertError as error:
        if interrupts.asked():  # a library turned the interrupt into an error
            _interrupted()
        _fail(error)
    except (KeyboardInterrupt, typer.Abort):
        _interrupted()
    except (BrokenPipeError, SystemExit) as error:  # newer versions of Typer exit by themselves where nobody reads
        _left_by_reader(error)
    except Exception as error:
        if interrupts.asked():
            _interrupted()
        _fail_unexpected(error)
    else:
        if code == EXIT_INTERRUPTED:  # newer versions of Typer turn Ctrl-C into this
            _interrupted()
        sys.exit(code or 0)


def _left_by_reader(error: BrokenPipeError | SystemExit) -> NoReturn:
    """Ends quietly where the output is no longer read; another pipe may have broken, and another part have asked to exit."""
    if isinstance(error, SystemExit) and not error.code:
        sys.exit(0)
    if not reader_left():
        _fail_unexpected(error.__context__ or error)
    drop(sys.stdout)
    sys.exit(0)


def _interrupted() -> NoReturn:
    try:
        require_threads()
    except EnvironmentFault as fault:  # OpenBLAS sends the signal of Ctrl-C where it cannot start its threads
        _fail(fault)
    resumes = "compress" in sys.argv[1:2]
    usual = "Finished stages are kept; run the same command again to go on." if resumes else "Nothing was written."
    left, code = interrupts.left() or usual, interrupts.exit_code()
    sys.stderr.write(f"\nerror: {'Interrupted' if code == EXIT_INTERRUPTED else 'Ended'}.\n  {left}\n")
    sys.exit(code)


def _fail(error: EdgebertError) -> NoReturn:
    _show_trace(error)
    fault = machine_fault(error) if error.exit_code == EXIT_INPUT else None  # the input may be right
    shown = error if fault is None or "cannot be written" in error.message else fault
    sys.stderr.write(f"error: {visible(str(shown))}\n")
    if error.exit_code == EXIT_INPUT and (gone := folder_fault()):
        sys.stderr.write(f"  {gone.message} {gone.hint}\n")
        sys.exit(gone.exit_code)
    sys.exit((fault or error).exit_code)


def _show_trace(error: BaseException) -> None:
    """For EDGEBERT_DEBUG=1; the exit code stays what it is without it."""
    if os.environ.get("EDGEBERT_DEBUG"):
        import traceback

        traceback.print_exception(error)


def _fail_unexpected(error: BaseException) -> NoReturn:
    if error.__class__.__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_INPUT)
    if hasattr(error, "format_message"):  # a wrong option or argument, whose class moved between versions of Typer
        command = getattr(getattr(error, "ctx", None), "command_path", "edgebert")
        sys.stderr.write(f"error: {error.format_message()}\n  {command} --help lists what can be asked.\n")
        sys.exit(EXIT_INPUT)
    if fault := output_fault() or machine_fault(error) or folder_fault():
        _fail(fault)
    _show_trace(error)
    first = (str(error).strip().splitlines() or [""])[0]
    sys.stderr.write(
        f"error: {error.__class__.__name__}: {first}\n  This is a fault in edgebert. EDGEBERT_DEBUG=1 shows where.\n"
    )
    sys.exit(EXIT_ENVIRONMENT)
