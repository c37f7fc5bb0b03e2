"""The run's output folder: written to a draft beside it and then exchanged as a whole, so that it is never half-written.

.<name>.<random>.draft/     of one run: `lock`, held while it is at work; `new`, the draft; `old`, what was moved aside
.<name>.lock                held while a draft is begun, exchanged or cleaned up: one at a time for each target
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edgebert.core.artifact import sync_folder
from edgebert.core.exchange import exchange
from edgebert.core.faults import store_faults
from edgebert.core.files import read_regular
from edgebert.core.leases import UNLOCKED_S
from edgebert.core.locks import is_held, locked
from edgebert.errors import InputError

WRITTEN = {"run.json", "report.json", "bundle"}
"""Names of everything in a run folder."""
FILLED = (errno.ENOTEMPTY, errno.EEXIST)
"""What rename(2) reports where a folder that is not empty would be replaced, and all else is well."""


@contextlib.contextmanager
def output_folder(out: Path, then: Callable[[Path | None], None] = lambda former: None) -> Iterator[Path]:
    """Yields an empty folder beside the target; when the block ends well, it takes the target's place.

    Args:
        out: the target, or a link to it.
        then: called with the folder that was replaced, or None, before another run can replace this one.

    Raises:
        InputError: the target contains something that no run wrote, or cannot be replaced, such as a mount point.
        StoreError: the target cannot be written.
    """
    target = Path(os.path.realpath(out))
    with store_faults(target, "--out"):
        _check_place(target)
        _check(target)
        target.parent.mkdir(parents=True, exist_ok=True)
    with store_faults(target, "--out", base=target.parent):
        place = target.parent / f".{target.name}.{secrets.token_hex(8)}.draft"
        with contextlib.ExitStack() as held:
            try:
                with _alone(target):
                    sweep(target)
                    place.mkdir()
                    held.enter_context(locked(place / "lock"))
                (place / "new").mkdir()
                _try_to_replace(target, place)
                yield place / "new"
                sync_folder(place / "new")
                with _alone(target):
                    _check(target)
                    then(_replace(target, place))
            finally:
                _clean(target, place)


def is_run(folder: Path) -> bool:
    """Whether a run wrote the folder, and everything in it."""
    try:
        record = json.loads(read_regular(folder / "run.json"))
        return {path.name for path in folder.iterdir()} <= WRITTEN and {"recipe", "steps", "verdict"} <= set(record)
    except (OSError, ValueError, TypeError):
        return False


def _check_place(target: Path) -> None:
    """Raises InputError for the current folder and those around it: asked once, for it may be gone when the run ends."""
    if Path.cwd().is_relative_to(target):
        raise InputError(
            f"{target} is the current folder, or holds it: a run replaces the whole folder.",
            hint="Name another folder with --out, or start from the folder above.",
        )


def _check(target: Path) -> None:
    """Raises InputError for what no run wrote."""
    if os.path.lexists(target) and not is_run(target) and (not target.is_dir() or any(target.iterdir())):
        raise InputError(
            f"{target} exists and was not written by a run; it is left alone.", hint="Name another folder with --out."
        )


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    with locked(target.parent / f".{target.name}.lock", passing=True):
        yield


def _try_to_replace(target: Path, place: Path) -> None:
    """Finds what prevents the exchange before any work: a mount point, missing rights, a folder of another layer or disk.

    The target is renamed to a folder that is not empty, which the system refuses last of all reasons, so that nothing moves.
    """
    if not target.exists():
        return
    filled = place / "filled"
    (filled / "inner").mkdir(parents=True)
    try:
        target.rename(filled)
        filled.rename(target)  # no system should come here
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.EXDEV):
            raise InputError(
                f"{target} cannot be replaced as a whole: it is a mount point, or part of another file system.",
                hint=f"Name a folder inside of it: --out {target / 'run'}",
            ) from error
        if error.errno not in FILLED:
            raise


def _replace(target: Path, place: Path) -> Path | None:
    """Puts the new folder at the target. Returns where the former one is now, if there was one."""
    new, old = place / "new", place / "old"
    if not target.exists():
        new.replace(target)
        return None
    if exchange(new, target):
        return new
    target.replace(old)
    try:
        new.replace(target)
    except BaseException:
        old.replace(target)
        raise
    return old


def _clean(target: Path, place: Path) -> None:
    """Removes a draft's folder, but never the only copy of a run that was moved aside."""
    if (place / "old").is_dir() and not target.exists():
        (place / "old").replace(target)
    shutil.rmtree(place, ignore_errors=True)


def sweep(target: Path) -> None:
    """Cleans up after runs that were killed: restores a folder that one had moved aside, and removes drafts."""
    if not target.parent.is_dir():
        return
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.draft")
    former = re.compile(rf"\.{re.escape(target.name)}-\d{{1,10}}-[^-]+")
    for place in sorted(target.parent.iterdir()):
        unlocked = former.fullmatch(place.name)
        if ours.fullmatch(place.name) and not is_held(place / "lock"):
            _clean(target, place)
        elif unlocked and ((place / "old").is_dir() or time.time() - place.stat().st_mtime > UNLOCKED_S):
            _clean(target, place)  # of an older version, which names a process that may live in another container
