"""Bundles that are exchanged while they are opened: what answers is what was signed, or there is an error."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from bundles import FP32, INT8, fill, make_root, signed, small_bundle, switch, with_labels
from conftest import Result
from exchanges import around, exchange, exchanging, tampered
from test_graph_files import moved_out

import edgebert
from edgebert.bundle import held as held_module
from edgebert.bundle.folder import BundleFolder
from edgebert.bundle.held import HeldFiles
from edgebert.bundle.read import open_bundle_folder, read_manifest
from edgebert.bundle.self_test import replay_all
from edgebert.core.store import FileEntry, hash_file
from edgebert.devices.agent.self_test import self_test
from edgebert.errors import BundleError, EdgebertError, EnvironmentFault
from edgebert.runtimes import RUNTIMES

TEXT = "a good film"
OPENVINO = "openvino/fp32"
GRAPHS = {FP32: "onnx", INT8: "onnx", OPENVINO: "openvino"}
"""Variant -> the folder that its graph lies in."""


@pytest.fixture(scope="module")
def kinds(finished: Path) -> dict[str, float]:
    """Variant -> the score that its signed graph gives TEXT."""
    bundle = finished / "runs" / "recipe" / "bundle"
    return {name: edgebert.load(bundle, variant=name)(TEXT).score for name in GRAPHS}


@pytest.fixture
def evil(bundle: Path, tmp_path: Path) -> Path:
    """The tampered copy of the test's bundle."""
    return tampered(bundle, tmp_path / "evil")


def while_opened(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object], after: Callable[[], object]) -> list[str]:
    """Lets something happen between the hash and the use of each graph, and something after it. Returns what was opened."""
    opened: list[str] = []
    for runtime in RUNTIMES:
        real = type(runtime).open

        def noted(self: Any, model: Path, *rest: Any, real: Any = real) -> Any:
            opened.append(model.name)
            return real(self, model, *rest)

        monkeypatch.setattr(type(runtime), "open", around(noted, before, after))
    return opened


@pytest.mark.parametrize("variant", GRAPHS)
@pytest.mark.parametrize("whole", [False, True], ids=["folder", "bundle"])
def test_a_folder_exchanged_between_hash_and_use_is_not_what_answers(
    bundle: Path, evil: Path, kinds: dict[str, float], monkeypatch: pytest.MonkeyPatch, variant: str, whole: bool
) -> None:
    pair = (bundle, evil) if whole else (bundle / GRAPHS[variant], evil / GRAPHS[variant])
    opened = while_opened(monkeypatch, lambda: exchange(*pair), lambda: exchange(*pair))
    assert edgebert.load(bundle, variant=variant)(TEXT).score == pytest.approx(kinds[variant], abs=1e-6)
    assert len(opened) == 1


def test_a_tokenizer_exchanged_between_hash_and_use_is_not_what_answers(
    bundle: Path, evil: Path, kinds: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (evil / "tokenizer.json").read_text()
    (evil / "tokenizer.json").write_text(text.replace('"good"', '"g00d"'))
    from edgebert.runtimes.serving import Serving

    swap = lambda: exchange(bundle, evil)  # noqa: E731
    monkeypatch.setattr(Serving, "open_tokenizer", around(Serving.open_tokenizer, swap, swap))
    assert edgebert.load(bundle, variant=FP32)(TEXT).score == pytest.approx(kinds[FP32], abs=1e-6)


def test_verify_replays_what_it_hashed(bundle: Path, evil: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = while_opened(monkeypatch, lambda: exchange(bundle, evil), lambda: exchange(bundle, evil))
    with open_bundle_folder(bundle) as found:
        assert [test.state for test in replay_all(found)] == ["ok"] * 5
    assert len(opened) == 5


def test_weights_beside_an_onnx_graph_are_held_with_it(
    bundle: Path, tmp_path: Path, kinds: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved_out(bundle, "weights.data")
    evil = Path(shutil.copytree(bundle, tmp_path / "evil"))
    weights = evil / "onnx/weights.data"
    weights.write_bytes(bytes(weights.stat().st_size))
    swap = lambda: exchange(bundle / "onnx", evil / "onnx")  # noqa: E731
    while_opened(monkeypatch, swap, swap)
    assert edgebert.load(bundle, variant=FP32)(TEXT).score == pytest.approx(kinds[FP32], abs=1e-6)


def test_a_runtime_that_takes_no_weights_from_memory_opens_copies_in_a_folder_of_this_user(
    bundle: Path, tmp_path: Path, kinds: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime import SessionOptions

    moved_out(bundle, "weights.data")
    evil = Path(shutil.copytree(bundle, tmp_path / "evil"))
    (evil / "onnx/weights.data").write_bytes(bytes((evil / "onnx/weights.data").stat().st_size))
    swap = lambda: exchange(bundle / "onnx", evil / "onnx")  # noqa: E731
    opened = while_opened(monkeypatch, swap, swap)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for owner in SessionOptions.__mro__[:-1]:
        if "add_external_initializers_from_files_in_memory" in vars(owner):
            monkeypatch.delattr(owner, "add_external_initializers_from_files_in_memory")
    assert edgebert.load(bundle, variant=FP32)(TEXT).score == pytest.approx(kinds[FP32], abs=1e-6)
    assert opened == ["model.onnx"]
    assert list(tmp_path.glob("edgebert-*")) == []


def test_verify_holds_the_copies_of_one_variant_at_a_time(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def counted() -> None:
        links = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        held.append(sum("memfd:edgebert" in str(link) for link in links))

    while_opened(monkeypatch, counted, lambda: None)
    with open_bundle_folder(bundle) as found:
        replay_all(found)
        counted()
    assert held == [2, 2, 2, 3, 3, 1]  # the tokenizer, one graph, and the weights of OpenVINO


def test_openvino_keeps_no_copy_in_memory_after_it_opened_one(bundle: Path) -> None:
    predictor = edgebert.load(bundle, variant=OPENVINO)
    assert "memfd:edgebert" not in Path("/proc/self/maps").read_text()
    assert predictor(TEXT).label


def test_a_file_written_in_place_between_hash_and_use_is_not_what_answers(
    bundle: Path, evil: Path, kinds: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = bundle / "onnx/model.onnx"
    good, bad = graph.read_bytes(), (evil / "onnx/model.onnx").read_bytes()

    def written(data: bytes) -> Callable[[], object]:
        graph.chmod(0o644)
        return lambda: graph.write_bytes(data)

    while_opened(monkeypatch, written(bad), written(good))
    assert edgebert.load(bundle, variant=FP32)(TEXT).score == pytest.approx(kinds[FP32], abs=1e-6)


def test_a_folder_that_is_exchanged_before_its_hash_is_refused(bundle: Path, evil: Path) -> None:
    with open_bundle_folder(bundle) as found:
        exchange(bundle / "onnx", evil / "onnx")
        with pytest.raises(BundleError, match=r"model\.onnx was altered"):
            found.held_graph("onnx/model.onnx")


def test_a_folder_that_becomes_a_link_is_not_followed(bundle: Path, tmp_path: Path) -> None:
    with open_bundle_folder(bundle) as found:
        (bundle / "onnx").rename(tmp_path / "onnx")
        (bundle / "onnx").symlink_to(tmp_path / "onnx")
        with pytest.raises(BundleError, match=r"model\.onnx cannot be read"):
            found.held("onnx/model.onnx")


def test_a_bundle_is_read_as_one_although_another_signed_one_takes_its_place(bundle: Path, tmp_path: Path) -> None:
    other = with_labels(bundle, tmp_path / "other")
    with open_bundle_folder(bundle) as found:
        exchange(bundle, other)
        found.check_contents()
        assert found.manifest.labels == ("negative", "positive")
    with open_bundle_folder(bundle) as found:
        assert found.manifest.labels == ("minus", "plus")


def test_a_slot_that_is_exchanged_there_and_back_is_opened_as_what_serves(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second bundle is opened although the first one lay at the path before and after: nothing of it was served."""
    root = make_root(tmp_path / "edgebert")
    slot = fill(root, "a", bundle)
    switch(root, "a")
    other = with_labels(bundle, tmp_path / "other")
    from edgebert.bundle import predictor

    times: list[int] = []

    def once() -> None:
        times.append(1)
        if len(times) <= 2:
            exchange(slot, other)

    monkeypatch.setattr(predictor, "open_bundle_folder", lambda path: _opened_between(path, once))
    assert edgebert.load(root.folder)(TEXT).label in ("negative", "positive")
    assert len(times) == 4


def _opened_between(path: Path, happens: Callable[[], object]) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def opened() -> Any:
        happens()
        with open_bundle_folder(path) as found:
            happens()
            yield found

    return opened()


def test_the_agents_self_test_opens_no_graph_that_nobody_signed(bundle: Path, evil: Path) -> None:
    with open_bundle_folder(bundle) as found:
        variant = found.manifest.variants[0]
    exchange(bundle / "onnx", evil / "onnx")
    state, reason = self_test(bundle, variant)
    assert state == "untested" and "was altered" in reason


@pytest.mark.parametrize("whole", [False, True], ids=["folder", "bundle"])
def test_no_unsigned_answer_while_another_process_exchanges_all_the_time(
    model_template: Path, tmp_path: Path, whole: bool
) -> None:
    bundle = Path(shutil.copytree(small_bundle(model_template), tmp_path / "bundle"))
    evil = tampered(bundle, tmp_path / "evil")
    right = edgebert.load(bundle, variant=FP32)(TEXT).score
    pair = (bundle, evil) if whole else (bundle / "onnx", evil / "onnx")
    answers, refused = [], 0
    with exchanging(*pair, pause=0.0005):
        for _ in range(25):
            try:
                answers.append(edgebert.load(bundle, variant=FP32)(TEXT).score)
            except BundleError:
                refused += 1
    assert len(answers) + refused == 25
    assert answers == pytest.approx([right] * len(answers), abs=1e-6)


def test_what_is_not_opened_is_not_read(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (graph,) = [item.file for item in read_manifest(bundle).variants if item.name == INT8]  # the fastest has the usual name
    read: list[str] = []
    real = BundleFolder.open
    monkeypatch.setattr(BundleFolder, "open", lambda self, name: (read.append(name), real(self, name))[1])
    edgebert.load(bundle, variant=INT8)
    assert read == ["edgebert.json", "tokenizer.json", graph]


def test_a_file_that_is_not_opened_is_checked_by_verify(bundle: Path, cli: Callable[..., Result]) -> None:
    data = bytearray((bundle / "README.md").read_bytes())
    data[10] ^= 1
    (bundle / "README.md").write_bytes(data)
    edgebert.load(bundle, variant=FP32)
    refused = cli("verify", bundle)
    assert refused.code == 2 and "README.md was altered" in refused.err


@pytest.mark.parametrize("name", ["forbidden", "unknown to the kernel", "unknown to Python", "no path to it"])
@pytest.mark.parametrize("variant", [FP32, OPENVINO])
def test_a_system_without_files_in_memory_copies_into_a_folder_of_this_user(
    bundle: Path, kinds: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, variant: str
) -> None:
    def forbidden(*arguments: object) -> int:
        raise OSError(errno.EPERM if name == "forbidden" else errno.ENOSYS, "no files in memory")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    if name == "no path to it":
        monkeypatch.setattr(held_module, "DESCRIPTORS", tmp_path / "nowhere")
    elif name == "unknown to Python":
        monkeypatch.delattr(os, "memfd_create")
    else:
        monkeypatch.setattr(os, "memfd_create", forbidden)
    assert edgebert.load(bundle, variant=variant)(TEXT).score == pytest.approx(kinds[variant], abs=1e-6)
    assert list(tmp_path.glob("edgebert-*")) == []


def test_a_held_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    entry = FileEntry(sha256=hash_file(tmp_path / "file"), size=7)
    with BundleFolder(tmp_path) as folder, HeldFiles() as held:
        path = held.hold(folder, "file", entry)
        assert held.hold(folder, "file", entry) == path
        for mode in ("r+b", "ab", "wb"):
            with suppress(OSError), path.open(mode) as file:
                file.write(b"x")
        assert path.read_bytes() == b"content"


def test_a_copy_that_finds_no_memory_is_a_fault_of_the_machine(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(held_module, "_write", full)
    with pytest.raises(EnvironmentFault, match="cannot be copied before it is opened: Cannot allocate memory"):
        edgebert.load(bundle)


def test_too_many_open_files_are_no_reason_for_a_folder(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", full)
    with pytest.raises(EnvironmentFault, match="Too many open files"):
        edgebert.load(bundle)


def test_where_nothing_is_opened_relative_to_a_folder_exchanges_are_found_all_the_same(
    bundle: Path, evil: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgebert.bundle.folder.RELATIVE", False)
    before = edgebert.load(bundle)(TEXT)
    with open_bundle_folder(bundle) as found:
        assert found.identity == (bundle.stat().st_dev, bundle.stat().st_ino)
        exchange(bundle, evil)
        with pytest.raises(EdgebertError):
            found.held_graph("onnx/model.onnx")
    assert edgebert.load(evil)(TEXT) == before
    assert signed(bundle)


def test_a_signed_graph_has_the_files_that_it_loads(bundle: Path) -> None:
    moved_out(bundle, "weights.data")
    with open_bundle_folder(bundle) as found:
        graphs = [found.signed_graph(name) for name in ("onnx/model.onnx", "openvino/openvino_model.xml")]
    assert [set(graph.files) for graph in graphs] == [
        {"onnx/model.onnx", "onnx/weights.data"},
        {"openvino/openvino_model.xml", "openvino/openvino_model.bin"},
    ]
    with graphs[0].held() as held:
        assert {name: path.read_bytes() for name, path in held.items()} == {
            name: (bundle / "onnx" / name).read_bytes() for name in ("model.onnx", "weights.data")
        }
