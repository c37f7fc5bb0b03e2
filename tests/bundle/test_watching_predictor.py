"""A predictor that watches: switches under load, slots that cannot be opened, and when its thread and its models end."""

from __future__ import annotations

import errno
import gc
import itertools
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bundles import FP32, INT8, fill, make_root, signed, small_bundle, switch, with_labels
from conftest import review_rows

import edgebert
from edgebert.bundle.device_folder import Root, SlotName, link_to
from edgebert.bundle.manifest import MANIFEST
from edgebert.bundle.opened_variant import OpenedVariant
from edgebert.bundle.watching_predictor import WatchingPredictor, watch_device
from edgebert.errors import BundleError, EnvironmentFault, InputError
from edgebert.runtimes.onnxruntime import OnnxRuntimeSession

TEXTS = [row["text"] for row in review_rows(6)]
OTHER = ("minus", "plus")
OFTEN = 0.01
PATIENCE = 60


@pytest.fixture(scope="module")
def shared(model_template: Path) -> Path:
    """A small bundle; do not write into it."""
    return small_bundle(model_template)


@pytest.fixture(scope="module")
def other(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that answers with other words; do not write into it."""
    return with_labels(shared, tmp_path_factory.mktemp("other") / "bundle", *OTHER)


@pytest.fixture
def root(shared: Path, other: Path, tmp_path: Path) -> Root:
    """A device's folder: slot a serves one bundle in FP32, slot b has the other in INT8."""
    made = make_root(tmp_path / "edgebert")
    fill(made, "a", shared, FP32)
    fill(made, "b", other, INT8)
    switch(made, "a")
    return made


@pytest.fixture
def watching(root: Root) -> Iterator[WatchingPredictor]:
    """What serves there, watched closely."""
    with watch_device(root.folder, variant=None, threads=None, watch=OFTEN) as predictor:
        yield predictor


def eventually(holds: Callable[[], object]) -> None:
    """Waits until it holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(OFTEN)


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "edgebert-watch"]


@pytest.mark.slow
def test_threads_that_ask_while_slots_are_switched_lose_no_call(root: Root, shared: Path, other: Path) -> None:
    exact = {text: {edgebert.load(shared, variant=FP32)(text), edgebert.load(other, variant=INT8)(text)} for text in TEXTS}
    last = {text: edgebert.load(shared, variant=FP32)(text) for text in TEXTS}
    assert all(len(answers) == 2 for answers in exact.values())
    predictor = edgebert.load(root.folder, watch=OFTEN)
    assert isinstance(predictor, WatchingPredictor)
    models: list[weakref.ref[OpenedVariant]] = [weakref.ref(predictor._now())]
    sessions: list[weakref.ref[object]] = [weakref.ref(predictor._now().session)]
    stop, faults = threading.Event(), []
    seen: set[str] = set()

    def hammer() -> None:
        try:
            for text in itertools.cycle(TEXTS):
                if stop.is_set():
                    return
                for answer in (predictor(text), *predictor.predict([text, text])):
                    assert answer in exact[text]
                    seen.add(answer.label)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    names: itertools.cycle[SlotName] = itertools.cycle(("b", "a"))
    for name in itertools.islice(names, 20):
        before = models[-1]
        switch(root, name)
        eventually(lambda before=before: predictor._now() is not before())
        models.append(weakref.ref(predictor._now()))
        sessions.append(weakref.ref(predictor._now().session))
    stop.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert seen & set(OTHER) and seen & {"negative", "positive"}
    assert {text: predictor(text) for text in TEXTS} == last
    assert predictor.fault is None
    gc.collect()
    assert [model() for model in models[:-1]] == [None] * 20
    assert [session() for session in sessions[:-1]] == [None] * 20
    assert len(watchers()) == 1
    predictor.close()
    assert watchers() == []
    gc.collect()
    assert models[-1]() is None and sessions[-1]() is None


def test_switches_faster_than_a_slot_can_be_opened_end_with_the_last(root: Root, watching: WatchingPredictor) -> None:
    names: itertools.cycle[SlotName] = itertools.cycle(("b", "a"))
    for name in itertools.islice(names, 41):
        switch(root, name)
        watching(TEXTS[0])
    eventually(lambda: watching(TEXTS[0]).label in OTHER)
    assert watching.variant.name == INT8


def test_a_switch_back_to_a_slot_that_was_filled_anew_is_seen(root: Root, other: Path, watching: WatchingPredictor) -> None:
    """The link then holds what it held before."""
    fill(root, "a", other, FP32)
    switch(root, "a")
    eventually(lambda: watching(TEXTS[0]).label in OTHER)
    assert watching.variant.name == FP32


def test_a_call_in_flight_is_answered_by_the_model_that_it_began_with(
    root: Root, watching: WatchingPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, go_on = threading.Event(), threading.Event()
    session = watching._now().session
    predict = session.predict

    def slow(batch: object) -> object:
        held.set()
        assert go_on.wait(PATIENCE)
        return predict(batch)

    expected = watching(TEXTS[0])
    monkeypatch.setattr(session, "predict", slow)
    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.append(watching(TEXTS[0])))
    asking.start()
    assert held.wait(PATIENCE)
    switch(root, "b")
    eventually(lambda: watching._now().session is not session)
    assert watching(TEXTS[0]).label in OTHER
    go_on.set()
    asking.join()
    assert answers == [expected]


def alter(root: Root) -> None:
    """One byte of a graph."""
    graph = root.slot("b") / "onnx" / "model_quantized.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(bytes(data))


def lie(root: Root) -> None:
    """Goldens that the model does not answer, signed as they are."""
    manifest = json.loads((root.slot("b") / MANIFEST).read_text())
    for variant in manifest["variants"]:
        variant["golden_outputs"] = {
            name: [[number + 1 for number in row] for row in rows] for name, rows in variant["golden_outputs"].items()
        }
    (root.slot("b") / MANIFEST).write_text(json.dumps(manifest))
    signed(root.slot("b"))
    fill(root, "b", root.slot("b"), INT8)


def strip(root: Root) -> None:
    (root.slot("b") / "edgebert.sig").unlink()


def forget(root: Root) -> None:
    root.record("b").unlink()


def ruin(root: Root) -> None:
    """A graph that no runtime opens, signed as it is."""
    (root.slot("b") / "onnx" / "model_quantized.onnx").write_bytes(b"none")
    signed(root.slot("b"))
    fill(root, "b", root.slot("b"), INT8)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (alter, "was altered"),
        (lie, "does not answer its goldens as where it was made"),
        (strip, "is not signed"),
        (forget, "is missing or of another bundle"),
        (ruin, "model_quantized.onnx"),
    ],
)
def test_a_slot_that_cannot_be_used_is_logged_once_and_tried_again_after_the_next_switch(
    root: Root,
    watching: WatchingPredictor,
    other: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Root], None],
    reason: str,
) -> None:
    before, model = watching(TEXTS[0]), watching._now()
    damage(root)
    with caplog.at_level(logging.INFO, logger="edgebert"):
        switch(root, "b")
        eventually(lambda: watching.fault)
        assert reason in str(watching.fault)
        time.sleep(5 * OFTEN)  # in which it looks again
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warnings) == 1 and reason in warnings[0].getMessage()
        assert watching(TEXTS[0]) == before and watching._now() is model
        fill(root, "b", other, INT8)
        switch(root, "b")
        eventually(lambda: watching(TEXTS[0]).label in OTHER)
        eventually(lambda: watching.fault is None)
        assert f"now {INT8} of" in caplog.records[-1].getMessage()


def test_an_error_that_passes_is_tried_again_without_another_switch(
    root: Root, watching: WatchingPredictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_, troubles = WatchingPredictor._open, [OSError(24, "Too many open files"), MemoryError()]

    def sometimes(predictor: WatchingPredictor) -> OpenedVariant:
        if troubles:
            raise troubles.pop()
        return open_(predictor)

    monkeypatch.setattr(WatchingPredictor, "_open", sometimes)
    with caplog.at_level(logging.WARNING, logger="edgebert"):
        switch(root, "b")
        eventually(lambda: watching(TEXTS[0]).label in OTHER)
    assert not troubles and len(caplog.records) == 1
    eventually(lambda: watching.fault is None)


@pytest.mark.parametrize("name", ["tokenizer.json", "b.json"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_a_file_that_cannot_be_read_for_a_moment_is_read_again(
    root: Root, watching: WatchingPredictor, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    """The error is raised as a fault of the bundle, or of the slot's record."""
    troubles, open_, read = [OSError(number, os.strerror(number))], os.open, Path.read_bytes

    def trouble(path: object, *, inside: bool = False) -> None:
        if troubles and (inside or str(path).startswith(str(root.slots))) and Path(str(path)).name == name:
            raise troubles.pop()

    def opening(path: object, *options: object, **more: object) -> object:
        trouble(path, inside="dir_fd" in more)
        return open_(path, *options, **more)

    def reading(path: Path) -> bytes:
        trouble(path)
        return read(path)

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(Path, "read_bytes", reading)
    switch(root, "b")
    eventually(lambda: watching(TEXTS[0]).label in OTHER)
    assert not troubles
    eventually(lambda: watching.fault is None)


def test_a_new_switch_is_looked_at_at_once_however_long_the_last_one_rests(
    root: Root, watching: WatchingPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(predictor: WatchingPredictor) -> OpenedVariant:
        raise MemoryError

    watching._end()  # the looks are made here
    with monkeypatch.context() as patch:
        patch.setattr(WatchingPredictor, "_open", fail)
        switch(root, "b")
        for _ in range(40):
            watching._look()
        assert watching.fault == "MemoryError: "
    switch(root, "a")
    switch(root, "b")
    watching._look()
    assert watching.fault is None and watching(TEXTS[0]).label in OTHER


def test_a_link_that_is_gone_stops_nothing(root: Root, watching: WatchingPredictor) -> None:
    before = watching(TEXTS[0])
    root.current.unlink()
    eventually(lambda: watching.fault)
    assert watching(TEXTS[0]) == before
    switch(root, "b")
    eventually(lambda: watching(TEXTS[0]).label in OTHER)


def test_a_variant_that_was_asked_for_is_kept_through_switches(root: Root) -> None:
    with edgebert.load(root.folder, variant=FP32, watch=OFTEN) as predictor:
        switch(root, "b")
        eventually(lambda: predictor(TEXTS[0]).label in OTHER)
        assert predictor.variant.name == FP32  # slot b chose INT8


def test_threads_that_were_asked_for_are_kept_through_switches(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    opening = OnnxRuntimeSession.__init__
    monkeypatch.setattr(
        OnnxRuntimeSession,
        "__init__",
        lambda self, model, target, held=None: asked.append(target.threads) or opening(self, model, target, held),
    )
    with edgebert.load(root.folder, threads=2, watch=OFTEN) as predictor:
        switch(root, "b")
        eventually(lambda: predictor(TEXTS[0]).label in OTHER)
    assert asked == [2, 2]


def test_watch_takes_the_link_and_links_that_lead_to_it(root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").symlink_to(root.current)
    (tmp_path / "device").symlink_to(root.folder)
    monkeypatch.chdir(root.folder)
    for path in (root.current, tmp_path / "model", tmp_path / "device", Path(), Path("current"), Path("slots/../current")):
        switch(root, "a")
        with edgebert.load(path, watch=OFTEN) as predictor:
            monkeypatch.chdir(tmp_path)  # the process may go elsewhere
            switch(root, "b")
            eventually(lambda predictor=predictor: predictor(TEXTS[0]).label in OTHER)
        monkeypatch.chdir(root.folder)


def test_watch_says_what_cannot_be_watched(root: Root, shared: Path, tmp_path: Path) -> None:
    for path in (shared, root.slot("a"), tmp_path):
        with pytest.raises(InputError, match="is not a device's folder, so there is no switch to watch for"):
            edgebert.load(path, watch=True)
    with pytest.raises(BundleError, match="There is no device's folder"):
        edgebert.load(tmp_path / "nowhere", watch=True)
    with pytest.raises(BundleError, match="no model serves there yet"):
        edgebert.load(make_root(tmp_path / "empty").folder, watch=True)
    assert watchers() == []


@pytest.mark.parametrize("watch", [0, -1, float("nan"), float("inf"), "1", None])
def test_watch_says_which_intervals_there_are(root: Root, watch: float) -> None:
    with pytest.raises(InputError, match="has to be True, or the seconds between two looks"):
        edgebert.load(root.folder, watch=watch)


def test_the_thread_ends_when_nobody_holds_the_predictor(root: Root) -> None:
    predictor = edgebert.load(root.folder, watch=3600)
    model = weakref.ref(predictor._now())
    assert len(watchers()) == 1
    del predictor
    gc.collect()
    assert watchers() == [] and model() is None


def test_a_predictor_in_a_cycle_ends_as_well(root: Root) -> None:
    predictor = edgebert.load(root.folder, watch=OFTEN)
    predictor.itself = predictor  # type: ignore[attr-defined]
    del predictor
    gc.collect()
    eventually(lambda: watchers() == [])


ENDING = """
import sys, time
from pathlib import Path
import edgebert
from edgebert.bundle.device_folder import Root
from edgebert.devices.agent.switch import make_link, turn
root = Root(Path(sys.argv[1]))
predictor = edgebert.load(root.folder, watch=0.001)
print(predictor(sys.argv[2]).label)
make_link(root.folder / "link", "b")
turn(root, root.folder / "link")
time.sleep(float(sys.argv[3]))
"""


@pytest.mark.parametrize("wait", [0.02, 0.1])
def test_a_process_that_ends_while_a_slot_is_opened_ends_well(root: Root, wait: float) -> None:
    words = [sys.executable, "-c", ENDING, str(root.folder), TEXTS[0], str(wait)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() in ("negative", "positive")


def test_close_may_come_twice_and_later_calls_say_so(watching: WatchingPredictor) -> None:
    watching.close()
    watching.close()
    with pytest.raises(InputError, match="was closed"):
        watching(TEXTS[0])


def test_a_forked_child_is_told_to_load_for_itself(watching: WatchingPredictor) -> None:
    def ask(answers: multiprocessing.SimpleQueue[str]) -> None:
        try:
            answers.put(str(watching(TEXTS[0])))
        except EnvironmentFault as fault:
            answers.put(fault.message)
        finally:
            watching.close()

    context = multiprocessing.get_context("fork")
    answers: multiprocessing.SimpleQueue[str] = context.SimpleQueue()
    child = context.Process(target=ask, args=(answers,))
    child.start()
    child.join(PATIENCE)
    assert child.exitcode == 0
    assert "does not survive a fork" in answers.get()
    assert watching(TEXTS[0]).label


def test_a_look_that_sees_no_switch_opens_nothing(root: Root, watching: WatchingPredictor) -> None:
    model = watching._now()
    assert str(root.current.readlink()) == link_to("a")
    for _ in range(10):
        watching._look()
    assert watching._now() is model
