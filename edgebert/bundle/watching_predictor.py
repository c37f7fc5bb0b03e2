"""A predictor that follows a device: after a switch of `current` it answers with the new slot's model, and loses no call."""

from __future__ import annotations

import errno
import logging
import math
import os
import threading
import weakref
from pathlib import Path
from queue import Empty, SimpleQueue

from edgebert.bundle.device_folder import Root, is_file
from edgebert.bundle.opened_variant import OpenedVariant
from edgebert.bundle.predictor import Predictor, check_answers, open_path
from edgebert.errors import BundleError, EdgebertError, EnvironmentFault, InputError

LOG = logging.getLogger("edgebert")
EVERY = 1.0
"""Seconds between two looks at the link `current`; a look takes two system calls."""
LONGEST = 86_400.0
"""Most seconds between two looks."""
MOST_REST = 63
"""Most looks that are skipped before a slot that could not be opened is tried again."""
PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EIO)
"""System errors that pass: the file is whole, and is tried again."""
MAX_LINKS = 40  # links that Linux follows
Served = tuple[str, int, int]
"""State of the link: its content, its inode, and the inode's time of change (ctime, ns). Every switch makes a new link."""


class WatchingPredictor(Predictor):
    """Answers with the model that a device serves now.

    A background thread looks at the link. After a switch it opens the new slot beside the old one, checks its files and
    replays its goldens; only then do new calls use it. Calls in flight are answered by the model that they began with, which
    is freed after the last of them. If the slot cannot be opened, or its outputs differ from the goldens, the old model
    continues to answer, the log (logger `edgebert`) and `fault` say why, and the slot is tried again after the next switch.

    The thread ends with `close`, or when the predictor is freed. After a fork, calls in the child raise EnvironmentFault.
    """

    def __init__(
        self, link: Path, *, variant: str | None, threads: int | None, spinning: bool | None = None, every: float
    ) -> None:
        self.fault: str | None = None
        """Why the slot that serves now does not answer here; None if it does."""
        self._link, self._every = link, every
        self._variant, self._threads, self._spinning = variant, threads, spinning
        self._process = os.getpid()
        self._seen = _served(link)
        self._logged: Served | None = None
        """The switch whose fault is in the log already."""
        self._rest = self._wait = 0
        """Looks to skip after an error that passes: how many the last time, and how many are left."""
        super().__init__(self._open())
        self._wake: SimpleQueue[None] = SimpleQueue()  # unlike an Event, it can be set within a finalizer
        self._watcher = threading.Thread(
            target=_watch, args=(weakref.ref(self), self._wake, every), name="edgebert-watch", daemon=True
        )
        self._end = weakref.finalize(self, _end, self._wake, self._watcher)
        self._watcher.start()

    def close(self) -> None:
        """Ends the thread and drops the model; calls in flight still get their answers."""
        self._end()
        super().close()

    def _now(self) -> OpenedVariant:
        if self._process != os.getpid():
            raise EnvironmentFault(
                "A watching predictor does not survive a fork: the thread that watches stayed in the parent.",
                hint="Call edgebert.load(..., watch=True) after the fork, in each process.",
            )
        return super()._now()

    def _look(self) -> None:
        """Opens the slot that serves, if the link was switched."""
        served = _served(self._link)
        if served == self._seen:
            return
        if served != self._logged:
            self._rest = self._wait = 0
        elif self._wait:
            self._wait -= 1
            return
        try:
            opened = self._open()
            check_answers(opened)
        except BaseException as error:  # whatever is wrong with the new model, the old one answers
            self._report(error, served)
            if isinstance(error, BundleError) and not _passes(error):
                self._seen = served
                return
            self._rest = min(2 * self._rest + 1, MOST_REST)
            self._wait = self._rest
        else:
            self._opened, self.fault = opened, None
            LOG.info("%s: now %s of %s answers", self._link, opened.variant.name, opened.manifest.name)
            self._seen = served  # read before the slot was opened: the next look sees a switch since then

    def _open(self) -> OpenedVariant:
        return open_path(self._link.parent, variant=self._variant, threads=self._threads, spinning=self._spinning)

    def _report(self, error: BaseException, served: Served | None) -> None:
        self.fault = str(error) if isinstance(error, EdgebertError) else f"{error.__class__.__name__}: {error}"
        if served == self._logged or not threading.main_thread().is_alive():  # a process that ends opens nothing any more
            return
        self._logged = served
        LOG.warning("%s was switched, but the old model goes on answering: %s", self._link, self.fault)


def watch_device(
    path: Path, *, variant: str | None, threads: int | None, spinning: bool | None = None, watch: bool | float
) -> WatchingPredictor:
    """Opens the model that a device serves, and follows its switches.

    Args:
        path: a device's folder, or the link `current` in it.
        variant: name of a variant that every bundle there has; by default the one that the device chose for each.
        threads: threads for one query; by default the number that the variant was measured with.
        spinning: whether threads wait for work in a loop; by default as the variant was measured.
        watch: True, or the seconds between two looks at the link.

    Raises:
        InputError: the path is not a device's folder, or `watch` is not such a number.
        BundleError: the device serves no model yet, or its bundle is damaged.
        EnvironmentFault: no runtime here can open it.
    """
    every = EVERY if watch is True else seconds(watch)
    return WatchingPredictor(link_of(path), variant=variant, threads=threads, spinning=spinning, every=every)


def seconds(watch: object) -> float:
    """The seconds between two looks.

    Raises:
        InputError: it is not a number above 0 and up to 86400.
    """
    if isinstance(watch, bool) or not isinstance(watch, int | float) or not 0 < watch <= LONGEST or math.isnan(watch):
        raise InputError(
            f"watch is {watch!r}, but has to be True, or the seconds between two looks (at most {LONGEST:g}).",
            hint="For example: watch=True, or watch=0.2",
        )
    return float(watch)


def link_of(path: Path) -> Path:
    """Absolute path of the link `current` for a device's folder, that link, or a link to it.

    Raises:
        BundleError: the path does not exist.
        InputError: it is not a device's folder, and does not lead through its `current`.
    """
    link = path.absolute()
    if is_file(Root(link).marker):
        return Root(link).current
    for _ in range(MAX_LINKS):
        root = Root(link.parent)
        if link == root.current and is_file(root.marker):
            return link
        if not os.path.islink(link):  # noqa: PTH114 - Path.is_symlink raises for a name that is invalid on every system
            break
        link = link.parent / link.readlink()
    if not os.path.lexists(path):
        raise BundleError(f"There is no device's folder {path}.", hint="Ship a bundle to it: edgebert ship")
    raise InputError(
        f"{path} is not a device's folder, so there is no switch to watch for.",
        hint="Give the folder that `edgebert ship` fills, or its `current`; or leave watch out.",
    )


def _served(link: Path) -> Served | None:
    """State of the link; None if there is no link."""
    try:
        status = link.lstat()
        return str(link.readlink()), status.st_ino, status.st_ctime_ns
    except OSError:
        return None


def _passes(error: BaseException | None) -> bool:
    """Whether an error or one of its causes passes by itself, such as a lack of file handles."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in PASSING):
            return True
        error = error.__cause__
    return False


def _watch(predictor: weakref.ref[WatchingPredictor], wake: SimpleQueue[None], every: float) -> None:
    """Work of the thread. Between two looks it holds no reference to the predictor, which can be freed."""
    while True:
        try:
            wake.get(timeout=every)
        except Empty:
            if (held := predictor()) is None:
                return
            held._look()
            del held
        else:
            return


def _end(wake: SimpleQueue[None], watcher: threading.Thread) -> None:
    """Ends the thread and waits for it. A forked child has no such thread."""
    wake.put(None)
    if watcher is not threading.current_thread() and watcher.is_alive():
        watcher.join()
