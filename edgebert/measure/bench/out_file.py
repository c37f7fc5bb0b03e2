"""Where the report goes: checked before anything is measured, for what took long must not be lost at the end."""

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
"""Written to see whether there is room; most reports are smaller."""


def fresh_place() -> Path:
    """bench.json here, or the first of bench-2.json, bench-3.json, ... that is not there: no measurement replaces another."""
    names = itertools.chain(["bench.json"], (f"bench-{number}.json" for number in itertools.count(2)))
    return next(place for name in names if not (place := Path.cwd() / name).exists() and not place.is_symlink())


def check_out(out: Path | None, progress: Progress, *, force: bool) -> Path:
    """Where the report is to go, absolute: where it was told to, or a fresh place here.

    Raises:
        InputError: it cannot be written there, or would take the place of something else.
    """
    if out is None:
        place = fresh_place()
        _check_folder(place)
        return place
    place = local_path(str(out), Path.cwd())
    if place.is_dir():
        raise InputError(f"{out} is a folder.", hint=f"Name a file in it: --out {out / 'bench.json'}")
    if place.exists() and not place.is_file():
        raise InputError(
            f"{out} is no file: a report would replace it.", hint="--json > /dev/null writes nothing but what it prints."
        )
    _check_folder(place)
    if not place.exists() or force:
        return place
    if not _is_ours(place):
        raise InputError(f"{out} is there already, and bench did not write it.", hint="Name another --out, or add --force.")
    progress.note(f"{out} is there already: it is replaced when the measurements are done")
    return place


def write_or_rescue(place: Path, report: Report) -> tuple[Path | None, InputError | None]:
    """Writes the report; where that fails, into the folder for temporary files, for it took long.

    Returns:
        Where it is, and why it is not where it was to be. Nowhere, where both fail.
    """
    try:
        write_report(place, report)
        return place, None
    except InputError as error:
        fault = error
    try:
        rescued = Path(tempfile.mkdtemp(prefix="edgebert-bench-")) / "bench.json"
        write_report(rescued, report)
    except (InputError, OSError):
        hint = "Nor could the folder for temporary files: what was measured is in what was printed alone."
        return None, InputError(fault.message, hint=hint)
    return rescued, InputError(fault.message, hint=f"The report is in {rescued} instead: move it from there.")


def shown(place: Path) -> str:
    """As short as it can be named from here."""
    return str(place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place)


def _check_folder(place: Path) -> None:
    """Whether a file can be made there, found out by making one."""
    if inside := next((parent for parent in place.parents if (parent / MANIFEST).is_file()), None):
        raise InputError(
            f"{shown(place)} lies in the bundle {inside}, which holds only what its manifest lists.", hint="Use --out."
        )
    existing = next(parent for parent in place.parents if parent.exists())
    try:
        with tempfile.NamedTemporaryFile(prefix=".edgebert-", dir=existing) as draft:
            draft.write(bytes(DRAFT_BYTES))
            draft.flush()
    except OSError as error:
        raise InputError(
            f"{shown(place)} cannot be written: {existing}: {error.strerror}.", hint="Name another place with --out."
        ) from error


def _is_ours(path: Path) -> bool:
    try:
        return all(entry.stage == "bench" for entry in read_report(path).entries)
    except InputError:
        return False


NAMES_A_PATH = re.compile(r"(log:|--[a-z-]+=(?:log:)?)?(.*)", re.DOTALL)
"""`log:FILE` and `--out=FILE` name a path after what they say of it."""


NO_PATHS = ("--variant", "--baseline-variant")
"""Options whose values have slashes and are names."""


def command_line(arguments: Sequence[str]) -> str:
    """The command as a shell reads it; of a path only its last part, for folders tell who works where."""
    before = ["", *arguments[:-1]]
    kept = [part if last in NO_PATHS else _without_folders(part) for last, part in zip(before, arguments, strict=True)]
    return shlex.join(["edgebert", *kept])


def _without_folders(argument: str) -> str:
    if argument.startswith(tuple(f"{option}=" for option in NO_PATHS)):
        return argument
    found = NAMES_A_PATH.fullmatch(argument)
    assert found  # it matches anything
    return (found[1] or "") + found[2].rstrip("/").rpartition("/")[2] if "/" in found[2] else argument
