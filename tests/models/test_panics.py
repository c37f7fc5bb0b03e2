"""Panics of the library tokenizers are errors, and standard error is where it was, whatever other threads do meanwhile."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgebert.errors import SourceError
from edgebert.models.panics import library_errors, without_panic
from edgebert.runtimes.serving import Serving
from edgebert.tasks import get_task


def standard_error() -> tuple[int, int, int]:
    found = os.fstat(2)
    return found.st_dev, found.st_ino, found.st_rdev


def test_two_threads_leave_standard_error_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEBERT_DEBUG", raising=False)
    before, nowhere = standard_error(), Path(os.devnull).stat()
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))
    within: list[tuple[int, int, int]] = []

    def first() -> None:
        first_is_in.set()
        second_is_in.wait(0.1)  # where nothing holds the second back, it comes in now
        within.append(standard_error())

    def second() -> None:
        second_is_in.set()
        first_is_out.wait(10)
        within.append(standard_error())

    def run_first() -> None:
        without_panic(first)
        first_is_out.set()

    def run_second() -> None:
        first_is_in.wait(10)
        without_panic(second)

    threads = [threading.Thread(target=target) for target in (run_first, run_second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert standard_error() == before
    assert within == [(nowhere.st_dev, nowhere.st_ino, nowhere.st_rdev)] * 2


def test_standard_error_is_back_after_a_panic_within_a_quiet_call() -> None:
    before = standard_error()
    panic = type("PanicException", (BaseException,), {})

    def fail() -> None:
        raise panic("\n a bad thing.\nmore")

    with pytest.raises(ValueError, match=r"^a bad thing$"):
        without_panic(lambda: without_panic(fail))
    assert standard_error() == before


def test_a_served_tokenizer_is_opened_without_moving_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = standard_error(), []
    monkeypatch.setattr("tokenizers.Tokenizer", SimpleNamespace(from_file=lambda name: seen.append(standard_error())))
    Serving(get_task("text-classification"), ("a", "b"), 16, 0, Path("tokenizer.json")).open_tokenizer()
    assert seen == [before]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), SourceError("mine", hint="-")])
def test_what_the_library_did_not_raise_passes(error: BaseException) -> None:
    with pytest.raises(type(error)), library_errors():
        raise error
