"""The Python API: what may be given, batches, many threads at once, and what serves on a device."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import FP32, INT8, fill, make_root, switch, with_labels
from conftest import Result, review_rows

import edgebert
from edgebert.bundle import predictor as predictor_module
from edgebert.bundle.device_folder import Root
from edgebert.bundle.predictor import Predictor
from edgebert.errors import BundleError, EdgebertError, EnvironmentFault, InputError
from edgebert.runtimes import get_runtime, onnxruntime
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.tasks import TASKS
from edgebert.tasks.base import Answer

TEXTS = [row["text"] for row in review_rows(24)]
THREADS = 8
OPENVINO = "openvino/int8-nncf"


@pytest.fixture(scope="module")
def shared(finished: Path) -> Path:
    """The finished bundle itself; do not write into it."""
    return finished / "runs" / "recipe" / "bundle"


@pytest.fixture(scope="module")
def opened(shared: Path) -> Predictor:
    """One variant of it, opened."""
    return edgebert.load(shared, variant=INT8)


@pytest.fixture(scope="module")
def device(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Root:
    """A device's folder whose slot a serves FP32, although the verdict selected another. Do not write into it."""
    root = make_root(tmp_path_factory.mktemp("device") / "edgebert")
    fill(root, "a", shared, FP32)
    switch(root, "a")
    return root


def test_load_takes_a_path_or_its_name(shared: Path) -> None:
    assert edgebert.load(str(shared))(TEXTS[0]) == edgebert.load(shared)(TEXTS[0])


@pytest.mark.parametrize("variant", [FP32, OPENVINO])
def test_batches_answer_in_order_and_as_one_by_one(shared: Path, variant: str) -> None:
    predictor = edgebert.load(shared, variant=variant)
    alone = [predictor(text) for text in TEXTS]
    for batch in (1, 5, 64):
        together = predictor.predict(TEXTS, batch=batch)
        assert [answer.label for answer in together] == [answer.label for answer in alone]
        assert [answer.score for answer in together] == pytest.approx([answer.score for answer in alone], abs=1e-4)


def test_a_batch_is_what_the_model_sees_at_once(opened: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    session = opened._now().session
    predict = session.predict
    monkeypatch.setattr(session, "predict", lambda batch: sizes.append(len(batch["input_ids"])) or predict(batch))
    opened.predict(TEXTS[:7], batch=3)
    opened.predict(TEXTS[:2])
    assert sizes == [3, 3, 1, 1, 1]


def test_nothing_to_answer_is_no_fault(opened: Predictor) -> None:
    assert opened.predict([]) == []


@pytest.mark.parametrize("threads", [0, -1, 1025, True, 1.0, "2"])
def test_load_says_which_numbers_of_threads_there_are(shared: Path, threads: int) -> None:
    with pytest.raises(InputError, match=r"threads is .*, but has to be a whole number from 1 to 1024"):
        edgebert.load(shared, threads=threads)


@pytest.mark.parametrize("batch", [0, -1, 4097, False, 2.0, "2"])
def test_predict_says_which_batches_there_are(opened: Predictor, batch: int) -> None:
    with pytest.raises(InputError, match=r"batch is .*, but has to be a whole number from 1 to 4096"):
        opened.predict(TEXTS, batch=batch)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda predictor: predictor(["a", "b"]), "A text is asked for, not list"),
        (lambda predictor: predictor.predict("a film"), "A list of texts is asked for"),
        (lambda predictor: predictor.predict(["a film", None]), "Text 2 is NoneType, not text"),
        (lambda predictor: predictor.predict(["a film", b"x"]), "Text 2 is bytes, not text"),
        (lambda predictor: predictor.predict(["a film", " \n"]), "Text 2 is empty"),
        (lambda predictor: predictor(("a", "b")), "Text 1: A text has 2 parts, but text-classification takes 1 here"),
        (lambda predictor: predictor.predict(["a", ("b", None)]), "Text 2 is NoneType, not text"),
        (lambda predictor: predictor(()), "Text 1 is empty"),
        (lambda predictor: predictor.predict_lines(["a", "", "half \ud83d"]), "Text 3 is not whole Unicode"),
        (lambda predictor: predictor("a", top_k=0), "top_k is 0, but has to be a whole number"),
        (lambda predictor: predictor("a", top_k=True), "top_k is True"),
    ],
)
def test_predict_says_what_is_no_text(opened: Predictor, ask: Callable[[Predictor], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(opened)


def test_a_tab_in_a_single_text_is_a_space(opened: Predictor) -> None:
    assert opened("a good\tfilm\tis") == opened("a good film is") == opened(("a good\tfilm is",))
    assert opened.predict_lines(["a good\tfilm", "\t"]) == [opened("a good film"), None]


def test_lines_are_answered_as_texts_whatever_the_batch(shared: Path) -> None:
    predictor, advanced = edgebert.load(shared, variant=FP32), list[int]()
    lines = [*TEXTS[:20], "", *TEXTS[20:], "  "]
    found = predictor.predict_lines(lines, batch=1, top_k=1, logits=True, advance=advanced.append)
    assert [answer is None for answer in found] == [not line.strip() for line in lines]
    assert [answer for answer in found if answer] == predictor.predict(TEXTS, top_k=1, logits=True)
    assert sum(advanced) == len(lines) and len(advanced) == 3


def test_an_answer_has_every_labels_probability_and_logits_on_request(opened: Predictor) -> None:
    plain, full = opened(TEXTS[0]), opened(TEXTS[0], logits=True)
    assert list(plain.probabilities.values()) == sorted(plain.probabilities.values(), reverse=True)
    assert set(plain.probabilities) == {"negative", "positive"} and plain.logits is None
    assert plain.probabilities[plain.label] == plain.score
    assert list(full.logits) == ["negative", "positive"]
    shares = np.exp(list(full.logits.values()))
    assert dict(zip(full.logits, shares / shares.sum(), strict=True)) == pytest.approx(plain.probabilities, abs=1e-6)
    assert len(opened(TEXTS[0], top_k=1).probabilities) == 1 and len(opened(TEXTS[0], top_k=9).probabilities) == 2
    assert len({plain, full}) == 2  # answers go into sets


def test_an_answer_that_is_no_number_is_refused_with_its_text(opened: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened._now().session
    outputs = [np.array([[0.0, 1.0]]), np.array([[np.nan, 1.0]])]
    monkeypatch.setattr(session, "predict", lambda batch: {"logits": outputs.pop(0)})
    with pytest.raises(BundleError, match="answers NaN or infinity to text 3"):
        opened.predict_lines([TEXTS[0], "", TEXTS[1]])


@pytest.mark.parametrize("spinning", [None, True, False])
def test_threads_spin_as_measured_unless_asked_otherwise(
    shared: Path, monkeypatch: pytest.MonkeyPatch, spinning: bool | None
) -> None:
    made: list[Target] = []
    real = onnxruntime.session_options
    monkeypatch.setattr(onnxruntime, "session_options", lambda target: made.append(target) or real(target))
    edgebert.load(shared, variant=INT8, threads=2, spinning=spinning)
    assert [(target.threads, target.options.spinning) for target in made] == [(2, spinning is not False)]
    edgebert.load(shared, variant=OPENVINO, spinning=spinning)(TEXTS[0])  # which knows no difference


def test_what_scores_lets_threads_sleep_and_answers_the_same(shared: Path) -> None:
    runtime = get_runtime("onnxruntime")
    graph, target = shared / "onnx/model.onnx", Target(runtime="onnxruntime", threads=2)
    batch = {name: np.full((1, 7), value) for name, value in (("input_ids", 5), ("attention_mask", 1), ("token_type_ids", 0))}
    asleep, spinning = (opens(graph, target) for opens in (runtime.open_for_answers, runtime.open))
    key = "session.intra_op.allow_spinning"
    assert asleep._session.get_session_options().get_session_config_entry(key) == "0"
    assert (asleep.predict(batch)["logits"] == spinning.predict(batch)["logits"]).all()


def at_once(work: Callable[[int], object], threads: int = THREADS) -> None:
    """Runs the work in threads that begin together; raises what one of them raised."""
    faults: list[BaseException] = []
    begin = threading.Barrier(threads)

    def run(number: int) -> None:
        try:
            begin.wait()
            work(number)
        except BaseException as fault:
            faults.append(fault)

    started = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if faults:
        raise faults[0]


@pytest.mark.slow
@pytest.mark.parametrize("variant", [INT8, OPENVINO])
def test_threads_get_the_answers_that_each_would_get_alone(shared: Path, variant: str) -> None:
    serial = [edgebert.load(shared, variant=variant)(text) for text in TEXTS]
    predictor = edgebert.load(shared, variant=variant)  # fresh: the first calls, which compile, come together as well
    answers: dict[int, list[list[Answer]]] = {number: [] for number in range(THREADS)}

    def ask(number: int) -> None:
        order = TEXTS[number:] + TEXTS[:number]
        for _ in range(2):
            found = [predictor(text) for text in order]
            answers[number].append(found[len(TEXTS) - number :] + found[: len(TEXTS) - number])

    at_once(ask)
    assert all(found == serial for rounds in answers.values() for found in rounds)


def test_a_tokenizer_that_is_set_already_is_not_set_again(opened: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older versions of tokenizers refuse whoever encodes while another thread sets it, as one that is being borrowed."""

    class Set:
        padding = None
        truncation = opened._now().tokenizer.truncation
        encode_batch = staticmethod(opened._now().tokenizer.encode_batch)

    serving = opened._now().serving
    opened("a film")
    assert serving.encode(Set(), [{"text": TEXTS[0]}]) == serving.encode(opened._now().tokenizer, [{"text": TEXTS[0]}])


def test_a_closed_predictor_says_so(shared: Path) -> None:
    with edgebert.load(shared, variant=FP32) as predictor:
        assert predictor(TEXTS[0]).label in ("negative", "positive")
    predictor.close()
    with pytest.raises(InputError, match="was closed"):
        predictor(TEXTS[0])


@pytest.mark.parametrize("path", ["", "current", "slots/a"])
def test_load_takes_the_slots_choice_on_a_device(device: Root, shared: Path, path: str) -> None:
    predictor = edgebert.load(device.folder / path)
    assert predictor.variant.name == predictor.selected == FP32
    assert predictor.obstacle is None
    assert predictor.predict(TEXTS) == edgebert.load(shared, variant=FP32).predict(TEXTS)
    assert edgebert.load(device.folder / path, variant=INT8).variant.name == INT8


def test_run_takes_the_slots_choice_and_notes_nothing(device: Root, shared: Path, cli: Callable[..., Result]) -> None:
    there, here = (
        cli("run", path, TEXTS[0], "--json", *more) for path, more in ((device.folder, ()), (shared, ("--variant", FP32)))
    )
    assert there.code == here.code == 0 and there.out == here.out
    assert there.err == ""
    assert json.loads(there.out)[0]["score"] != edgebert.load(shared, variant=INT8)(TEXTS[0]).score


def test_a_loaded_slot_stays_whatever_is_switched(device: Root, shared: Path, tmp_path: Path) -> None:
    root = make_root(tmp_path / "edgebert")
    fill(root, "a", shared)
    switch(root, "a")
    predictor = edgebert.load(root.folder)
    before = predictor.predict(TEXTS)
    fill(root, "b", with_labels(shared, tmp_path / "other", "minus", "plus"))
    switch(root, "b")
    assert predictor.predict(TEXTS) == before
    assert {answer.label for answer in edgebert.load(root.folder).predict(TEXTS)} <= {"minus", "plus"}


def test_load_says_that_nothing_serves_yet(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model serves there yet"):
        edgebert.load(make_root(tmp_path / "edgebert").folder)


def test_load_says_that_a_record_is_of_another_bundle(shared: Path, tmp_path: Path) -> None:
    root = make_root(tmp_path / "edgebert")
    fill(root, "a", shared)
    switch(root, "a")
    record = json.loads(root.record("a").read_text())
    root.record("a").write_text(json.dumps({**record, "manifest": "0" * 64}))
    with pytest.raises(BundleError, match="is missing or of another bundle"):
        edgebert.load(root.folder)


@pytest.mark.parametrize("fault", [None, BundleError("altered")])
def test_a_slot_that_is_exchanged_while_it_is_opened_is_opened_anew(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: EdgebertError | None
) -> None:
    root = make_root(tmp_path / "edgebert")
    fill(root, "a", shared)
    switch(root, "a")
    other = with_labels(shared, tmp_path / "other", "minus", "plus")
    open_bundle, opened = predictor_module.open_bundle, []

    def exchanging(folder: Path, **options: object) -> object:
        found = open_bundle(folder, **options)
        opened.append(found)
        if len(opened) == 1:
            fill(root, "a", other)
            if fault:
                raise fault
        return found

    monkeypatch.setattr(predictor_module, "open_bundle", exchanging)
    predictor = edgebert.load(root.folder)
    assert len(opened) == 2
    assert predictor(TEXTS[0]).label in ("minus", "plus")


def test_a_slot_that_is_exchanged_each_time_is_given_up(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_root(tmp_path / "edgebert")
    fill(root, "a", shared)
    switch(root, "a")
    open_bundle = predictor_module.open_bundle

    def exchanging(folder: Path, **options: object) -> object:
        found = open_bundle(folder, **options)
        fill(root, "a", shared)
        return found

    monkeypatch.setattr(predictor_module, "open_bundle", exchanging)
    with pytest.raises(EnvironmentFault, match="was exchanged each time"):
        edgebert.load(root.folder)


def test_half_a_character_is_no_text(opened: Predictor) -> None:
    with pytest.raises(InputError, match="Text 2 is not whole Unicode"):
        opened.predict([TEXTS[0], "good \ud83d"])


def test_a_tokenizer_that_panics_is_a_fault_of_the_bundle(shared: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shared, tmp_path / "bundle"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    serving = Serving(TASKS[0], ("a", "b"), 32, 0, folder / "tokenizer.json")
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        serving.encode(serving.open_tokenizer(), [{"text": "good"}])


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
@pytest.mark.parametrize("below", ["", "/current", "/slots/a"])
def test_a_name_that_no_file_can_have_is_no_bundle(name: str, below: str) -> None:
    with pytest.raises(BundleError, match="There is no bundle"):
        edgebert.load(name + below)
    with pytest.raises(BundleError, match="There is no device's folder"):
        edgebert.load(name + below, watch=True)
