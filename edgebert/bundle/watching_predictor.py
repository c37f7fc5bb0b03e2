"""A predictor that follows a device: when `current` is switched, it goes over to the new slot without losing a call."""

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
from edgebert.bundle.predictor import OpenedVariant, Predictor, check_answers, open_place
from edgebert.errors import BundleError, EdgebertError, EnvironmentFault, InputError

LOG = logging.getLogger("edgebert")
EVERY = 1.0
"""Seconds between two looks at the link; each costs two system calls."""
LONGEST = 86_400.0
MOST_REST = 63
"""Looks that are passed over at most before a slot is tried again."""
PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EIO)
"""What a file cannot be read for although nothing is wrong with it."""
MAX_LINKS = 40  # as the kernel follows
Served = tuple[str, int, int]
"""Of the link: what it holds, its inode, and when that last changed. Every switch makes a new link."""


class WatchingPredictor(Predictor):
    """Answers with what serves on a device now.

    A thread of its own looks at the link. After a switch it opens the new slot beside the old one, checks its files and
    replays its goldens, and only then the next calls go to it. Calls in flight are answered by the model that they began
    with, which is freed when the last of them has ended. A slot that cannot be opened, or that answers its goldens
    otherwise, is left alone: the old model goes on serving, the log (logger `edgebert`) and `fault` say why, and it is
    tried again after the next switch.

    The thread ends with `close`, or when nobody holds the predictor any more. It does not survive a fork: there a call raises.
    """

    def __init__(self, link: Path, *, variant: str | None, threads: int | None, every: float) -> None:
        self.fault: str | None = None
        """Why the slot that serves now could not be gone over to; None where this is the one that answers."""
        self._link, self._variant, self._threads, self._every = link, variant, threads, every
        self._process = os.getpid()
        self._seen = _served(link)
        self._told: Served | None = None
        """Of which the log has told that it could not be gone over to."""
        self._rest = self._wait = 0
        """Looks to pass over after a moment's trouble: how many the last time, and how many are left."""
        super().__init__(self._open())
        self._wake: SimpleQueue[None] = SimpleQueue()  # unlike an Event, it may be told something within a finalizer
        self._watcher = threading.Thread(
            target=_watch, args=(weakref.ref(self), self._wake, every), name="edgebert-watch", daemon=True
        )
        self._end = weakref.finalize(self, _end, self._wake, self._watcher)
        self._watcher.start()

    def close(self) -> None:
        """Ends the thread and lets go of the model; calls in flight end well."""
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
        """Goes over to another slot, if the link was switched."""
        served = _served(self._link)
        if served == self._seen:
            return
        if served != self._told:
            self._rest = self._wait = 0
        elif self._wait:
            self._wait -= 1
            return
        try:
            opened = self._open()
            check_answers(opened)
        except BaseException as error:  # whatever is wrong with the new one, the old one answers
            self._report(error, served)
            if isinstance(error, BundleError) and not _passes(error):
                self._seen = served
                return
            self._rest = min(2 * self._rest + 1, MOST_REST)
            self._wait = self._rest
        else:
            self._opened, self.fault = opened, None
            LOG.info("%s: now %s of %s answers", self._link, opened.variant.name, opened.manifest.name)
            self._seen = served  # looked at before: what was switched meanwhile is seen by the next look

    def _open(self) -> OpenedVariant:
        return open_place(self._link.parent, variant=self._variant, threads=self._threads)

    def _report(self, error: BaseException, served: Served | None) -> None:
        self.fault = str(error) if isinstance(error, EdgebertError) else f"{error.__class__.__name__}: {error}"
        if served == self._told:
            return
        self._told = served
        LOG.warning("%s was switched, but the old model goes on answering: %s", self._link, self.fault)


def watch_place(place: Path, *, variant: str | None, threads: int | None, watch: bool | float) -> WatchingPredictor:
    """Opens what serves on a device, and follows it.

    Args:
        place: a device's folder, or the link `current` in it.
        variant: name of a variant that every bundle there has; by default the one that the device chose for each.
        threads: threads for one query; by default as it was measured.
        watch: True, or the seconds between two looks at the link.

    Raises:
        InputError: the place is no device's, or `watch` no such number.
        BundleError: nothing serves there yet, or what does is not whole.
        EnvironmentFault: no runtime here can open it.
    """
    every = EVERY if watch is True else seconds(watch)
    return WatchingPredictor(link_of(place), variant=variant, threads=threads, every=every)


def seconds(watch: object) -> float:
    """The seconds between two looks.

    Raises:
        InputError: it is no number above 0.
    """
    if isinstance(watch, bool) or not isinstance(watch, int | float) or not 0 < watch <= LONGEST or math.isnan(watch):
        raise InputError(
            f"watch is {watch!r}, but has to be True, or the seconds between two looks (at most {LONGEST:g}).",
            hint="For example: watch=True, or watch=0.2",
        )
    return float(watch)


def link_of(place: Path) -> Path:
    """The link `current` that a place stands for, as an absolute path.

    Raises:
        BundleError: nothing is there.
        InputError: it is no device's folder and does not lead through its `current`.
    """
    link = place.absolute()
    if is_file(Root(link).marker):
        return Root(link).current
    for _ in range(MAX_LINKS):
        root = Root(link.parent)
        if link == root.current and is_file(root.marker):
            return link
        if not os.path.islink(link):  # noqa: PTH114 - Path's raises for a name that no system takes
            break
        link = link.parent / link.readlink()
    if not os.path.lexists(place):
        raise BundleError(f"There is no device's folder {place}.", hint="Ship a bundle to it: edgebert ship")
    raise InputError(
        f"{place} is not a device's folder, so there is no switch to watch for.",
        hint="Give the folder that `edgebert ship` fills, or its `current`; or leave watch out.",
    )


def _served(link: Path) -> Served | None:
    """None where there is no link."""
    try:
        found = link.lstat()
        return str(link.readlink()), found.st_ino, found.st_ctime_ns
    except OSError:
        return None


def _passes(error: BaseException | None) -> bool:
    """Whether it came of a moment's trouble, such as no file handle left, however it is told."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in PASSING):
            return True
        error = error.__cause__
    return False


def _watch(predictor: weakref.ref[WatchingPredictor], wake: SimpleQueue[None], every: float) -> None:
    """The thread. Between two looks it holds nothing of the predictor."""
    while True:
        try:
            wake.get(timeout=every)
        except Empty:
            if (found := predictor()) is None:
                return
            found._look()
            del found
        else:
            return


def _end(wake: SimpleQueue[None], watcher: threading.Thread) -> None:
    """Wakes the thread and sees it end. In a forked child there is none."""
    wake.put(None)
    if watcher is not threading.current_thread() and watcher.is_alive():
        watcher.join()
