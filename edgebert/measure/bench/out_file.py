"""The report's file, checked before anything is measured so that no result is lost at the end; and the command in it."""

from __future__ import annotations

import itertools
import re
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgebert.bundle.manifest import MANIFEST
from edgebert.core.files import local_path
from edgebert.core.progress import Progress
from edgebert.errors import InputError
from edgebert.report.file import read_report, write_report
from edgebert.report.report import Report

DRAFT_BYTES = 1 << 20
"""Bytes written to test whether there is room; most reports are smaller."""


def fresh_file() -> Path:
    """bench.json here, or the first of bench-2.json, bench-3.json, ... that does not exist: no report replaces another."""
    names = itertools.chain(["bench.json"], (f"bench-{number}.json" for number in itertools.count(2)))
    return next(file for name in names if not (file := Path.cwd() / name).exists() and not file.is_symlink())


def check_out(out: Path | None, progress: Progress, *, force: bool) -> Path:
    """The report's file, absolute: the one that the user named, or a new one here.

    Raises:
        InputError: it cannot be written, or would replace something that bench did not write.
    """
    if out is None:
        file = fresh_file()
        _check_folder(file)
        return file
    file = local_path(str(out), Path.cwd())
    if file.is_dir():
        raise InputError(f"{out} is a folder.", hint=f"Name a file in it: --out {out / 'bench.json'}")
    if file.exists() and not file.is_file():
        raise InputError(
            f"{out} is no file: a report would replace it.", hint="--json > /dev/null writes nothing but what it prints."
        )
    _check_folder(file)
    if not file.exists() or force:
        return file
    if not _is_ours(file):
        raise InputError(f"{out} is there already, and bench did not write it.", hint="Name another --out, or add --force.")
    progress.note(f"{out} is there already: it is replaced when the measurements are done")
    return file


def write_or_rescue(file: Path, report: Report) -> tuple[Path | None, InputError | None]:
    """Writes the report; where that fails, into the folder for temporary files, because the measurement took long.

    Returns:
        The file that was written, None where both fail, and the reason why it is not the one that was asked for.
    """
    try:
        write_report(file, report)
        return file, None
    except InputError as error:
        fault = error
    try:
        rescued = Path(tempfile.mkdtemp(prefix="edgebert-bench-")) / "bench.json"
        write_report(rescued, report)
    except (InputError, OSError):
        hint = "Nor could the folder for temporary files: what was measured is in what was printed alone."
        return None, InputError(fault.message, hint=hint)
    return rescued, InputError(fault.message, hint=f"The report is in {rescued} instead: move it from there.")


def shown(path: Path) -> str:
    """The shortest name of a path from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _check_folder(file: Path) -> None:
    """Raises InputError where no file can be written in the folder, by writing one."""
    if inside := next((parent for parent in file.parents if (parent / MANIFEST).is_file()), None):
        raise InputError(
            f"{shown(file)} lies in the bundle {inside}, which holds only what its manifest lists.", hint="Use --out."
        )
    existing = next(parent for parent in file.parents if parent.exists())
    try:
        with tempfile.NamedTemporaryFile(prefix=".edgebert-", dir=existing) as draft:
            draft.write(bytes(DRAFT_BYTES))
            draft.flush()
    except OSError as error:
        raise InputError(
            f"{shown(file)} cannot be written: {existing}: {error.strerror}.", hint="Name another file with --out."
        ) from error


def _is_ours(path: Path) -> bool:
    try:
        return all(entry.stage == "bench" for entry in read_report(path).entries)
    except InputError:
        return False


NAMES_A_PATH = re.compile(r"(log:|--[a-z-]+=(?:log:)?)?(.*)", re.DOTALL)
"""`log:FILE` and `--out=FILE` name a path after a prefix."""
NO_PATHS = ("--variant", "--baseline-variant")
"""Options whose values have slashes and are names."""


def command_line(arguments: Sequence[str]) -> str:
    """The command as a shell reads it, with only the last part of each path, because folders reveal who works where."""
    before = ["", *arguments[:-1]]
    kept = [part if last in NO_PATHS else _without_folders(part) for last, part in zip(before, arguments, strict=True)]
    return shlex.join(["edgebert", *kept])


def _without_folders(argument: str) -> str:
    if argument.startswith(tuple(f"{option}=" for option in NO_PATHS)):
        return argument
    match = NAMES_A_PATH.fullmatch(argument)
    assert match  # it matches anything
    return (match[1] or "") + match[2].rstrip("/").rpartition("/")[2] if "/" in match[2] else argument
