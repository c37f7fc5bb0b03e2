"""A bundle is laid out, checked, tried and switched to, by real agents that measure in real processes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agents import Said, ask, files_of, install, send, ship, tree
from bundles import FP32, INT8, changed, renamed, signed, small_bundle, variant, with_gates, with_selected_alone

import edgebert
from edgebert.bundle.device_folder import MANIFEST, Root, resolve
from edgebert.core.store import hash_file
from edgebert.devices.agent.protocol import VariantTrial
from edgebert.devices.agent.record import KEPT, keep_report, numbered
from edgebert.devices.agent.trial import enough
from edgebert.report.compare.comparison import compare
from edgebert.report.compare.findings import CompareOptions
from edgebert.report.file import read_report, write_report
from edgebert.report.gates import Gate
from edgebert.report.report import Report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(model_template: Path) -> Path:
    """Do not write into it."""
    return small_bundle(model_template)


@pytest.fixture(scope="module")
def shipped(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root where the bundle serves from slot a. Do not write into it."""
    root = tmp_path_factory.mktemp("shipped") / "device"
    assert ship(root, bundle).value["outcome"] == "switched"
    return root


@pytest.fixture
def root(shipped: Path, tmp_path: Path) -> Path:
    """A copy of that root, for one test."""
    return Path(shutil.copytree(shipped, tmp_path / "device", symlinks=True))


def lasting(root: Path) -> dict[str, str]:
    """Slots, records and the link, which no failure may change."""
    return {name: content for name, content in tree(root).items() if name.startswith(("slots", "current"))}


def leftovers(root: Path) -> list[str]:
    """Files that an agent must not leave behind."""
    return [name for name in tree(root) if name.startswith(("staging", "switching")) or ".old" in name]


def test_a_first_bundle_serves_and_gives_the_same_answers_as_on_the_workstation(shipped: Path, bundle: Path) -> None:
    assert lasting(shipped)["current"] == "-> slots/a"
    assert tree(shipped / "current") == tree(bundle)
    assert resolve(shipped) == (shipped.resolve() / "slots" / "a", INT8)
    assert resolve(shipped / "current") == resolve(shipped)
    ours, theirs = (edgebert.load(path, variant=INT8).predict(["a good film"]) for path in (resolve(shipped)[0], bundle))
    assert ours == theirs
    files = [file for file in (shipped / "slots" / "a").rglob("*") if file.is_file()]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o444}
    assert [file.name for file in (shipped / "incoming").iterdir()] == ["left.json"]
    assert leftovers(shipped) == []


def test_status_says_what_serves(shipped: Path, bundle: Path) -> None:
    for thorough in (False, True):
        status = ask(shipped, "status", thorough=thorough).value
        assert status["serving"] == "a" and status["root"] == str(shipped.resolve())
        (slot,) = status["slots"]
        assert slot["bundle"] == "recipe" and slot["variant"] == INT8 and slot["fault"] is None and slot["p50_ms"] > 0
    about = ask(shipped, "hello").value
    assert about["serving"] == slot["manifest"] == hash_file(bundle / MANIFEST)
    assert slot["signed_by"] in about["trusted"]


@pytest.fixture(scope="module")
def second(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another bundle with the same graphs."""
    return renamed(bundle, tmp_path_factory.mktemp("second") / "second", "second")


@pytest.fixture(scope="module")
def both(shipped: Path, second: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, Said]:
    """A root with both bundles, the bytes that were sent for the second, and the answer of the agent. Do not write into it."""
    root = Path(shutil.copytree(shipped, tmp_path_factory.mktemp("both") / "device", symlinks=True))
    return root, send(root, second), install(root, second)


def test_a_second_bundle_moves_only_what_is_new_and_fills_the_other_slot(
    both: tuple[Path, int, Said], bundle: Path, second: Path
) -> None:
    root, sent, said = both
    assert sent == sum((second / name).stat().st_size for name in ("edgebert.json", "edgebert.sig"))
    assert (said.value["outcome"], said.value["slot"], said.value["variant"]) == ("switched", "b", INT8)
    assert tree(root / "current") == tree(second) and tree(root / "slots" / "a") == tree(bundle)
    graphs = [root / "slots" / name / "onnx" / "model_quantized.onnx" for name in ("a", "b")]
    assert graphs[0].stat().st_ino == graphs[1].stat().st_ino  # one file, two names
    assert leftovers(root) == []


def test_rollback_goes_back_and_forward_again(both: tuple[Path, int, Said], bundle: Path, second: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(both[0], tmp_path / "device", symlinks=True))
    back = ask(root, "rollback").value
    assert back["serving"] == "a" and tree(root / "current") == tree(bundle)
    assert [slot["fault"] for slot in back["slots"]] == [None, None]
    assert ask(root, "rollback").value["serving"] == "b" and tree(root / "current") == tree(second)
    assert leftovers(root) == []


def test_rollback_says_why_there_is_nothing_to_go_back_to(shipped: Path, tmp_path: Path) -> None:
    assert "no other bundle" in ask(shipped, "rollback").failure["message"]
    assert "Nothing serves" in ask(tmp_path / "empty", "rollback").failure["message"]


def test_the_report_is_the_bundles_own_with_the_times_of_this_device(
    both: tuple[Path, int, Said], bundle: Path, tmp_path: Path
) -> None:
    root, _, said = both
    file = tmp_path / "report.json"
    file.write_text(json.dumps(said.value["report"]))
    here, shipped_report = read_report(file), read_report(bundle / "report.json")
    assert here == read_report(next((root / "reports").glob("000002-*.json")))
    assert here.recipe == "second on attic"
    assert here.right_answers == shipped_report.right_answers and here.eval_data == shipped_report.eval_data
    ours, theirs = ({entry.name: entry for entry in report.entries} for report in (here, shipped_report))
    assert set(ours) == {FP32, INT8}
    for name, entry in ours.items():
        assert entry.statistics == theirs[name].statistics and entry.macs == theirs[name].macs
        assert entry.rounds != theirs[name].rounds and len(entry.latencies_ms()) == 16
        assert entry.coverage is None and theirs[name].coverage is not None
    tried = {item["variant"]: item for item in said.value["tried"]}
    assert tried[INT8]["p50_ms"] == ours[INT8].percentile_ms(50)
    assert tried[INT8]["passed"] and tried[INT8]["self_test"] == "ok" and not tried[FP32]["passed"]


def test_the_fastest_variant_that_passes_is_chosen(bundle: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    report = read_report(other / "report.json")
    names = [f"onnxruntime/int8-{number}" for number in range(2)]
    (entry,) = [item for item in report.entries if item.name == INT8]
    again = tuple(entry.model_copy(update={"name": name}) for name in names)
    write_report(other / "report.json", report.model_copy(update={"entries": (*report.entries, *again)}))

    def add(manifest: dict[str, Any]) -> None:
        manifest["variants"] += [{**variant(manifest, INT8), "name": name} for name in names]

    said = ship(tmp_path / "device", signed(other, add)).value
    passed = [item for item in said["tried"] if item["passed"]]
    assert [item["variant"] for item in passed] == [INT8, *names]
    assert said["variant"] == min(passed, key=lambda item: item["p50_ms"])["variant"]
    (slot,) = ask(tmp_path / "device", "status").value["slots"]
    assert slot["variant"] == said["variant"] and slot["p50_ms"] == min(item["p50_ms"] for item in passed)


def test_reports_of_two_devices_can_be_compared(shipped: Path, tmp_path: Path) -> None:
    here = read_report(next((shipped / "reports").iterdir()))
    elsewhere = here.environment.model_copy(update={"cpu": "Cortex-A72", "isa": ("arm-neon",), "machine": "aarch64"})
    write_report(tmp_path / "other.json", here.model_copy(update={"environment": elsewhere, "recipe": "recipe on shed"}))
    other = read_report(tmp_path / "other.json")
    found = compare(here, other, CompareOptions(across_devices=True), names=("attic", "shed"))
    assert {pair.name for pair in found.pairs} == {FP32, INT8} and not found.missing and not found.extra
    assert {item.verdict for pair in found.pairs for item in pair.findings if item.metric == "p50_ms"} <= {"inconclusive"}
    apart = compare(here, other, CompareOptions(), names=("attic", "shed"))
    assert {item.verdict for pair in apart.pairs for item in pair.findings if item.metric == "p50_ms"} == {"incomparable"}


def test_the_same_bundle_again_changes_nothing(root: Path, bundle: Path) -> None:
    before = lasting(root)
    nothing = {"tried": [], "reasons": [], "report": None}
    assert ship(root, bundle).value == {"outcome": "unchanged", "slot": "a", "variant": INT8, **nothing}
    assert lasting(root) == before


def flip(file: Path) -> None:
    """One bit, in a file of its own: links to its content elsewhere stay as they are."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    file.write_bytes(content)


def test_a_slot_that_is_damaged_is_seen_and_laid_out_again(root: Path, bundle: Path) -> None:
    flip(root / "slots/a/onnx/model.onnx")
    assert ask(root, "status").value["slots"][0]["fault"] is None  # the cheap look sees sizes
    assert "altered" in ask(root, "status", thorough=True).value["slots"][0]["fault"]
    assert send(root, bundle) == (bundle / "onnx/model.onnx").stat().st_size
    said = install(root, bundle)
    assert said.value["outcome"] == "switched" and said.value["slot"] == "b"
    assert any("laid out again" in event.get("line", "") for event in said.events)
    assert tree(root / "current") == tree(bundle)
    refused = ask(root, "rollback").failure
    assert "Slot a cannot serve" in refused["message"] and refused["kind"] == "BundleError"
    assert ask(root, "status").value["serving"] == "b"


def different_goldens(manifest: dict[str, Any], name: str = INT8) -> None:
    entry = variant(manifest, name)
    entry["golden_outputs"] = {name: (np.array(values) + 5).tolist() for name, values in entry["golden_outputs"].items()}


def other_tokens(manifest: dict[str, Any]) -> None:
    manifest["goldens"]["token_ids"][0][0] += 1


def failed_on_the_workstation(manifest: dict[str, Any]) -> None:
    variant(manifest, INT8).update(status="FAILED", reasons=["accuracy >= 0.9: 0.5, missed"])
    manifest.update(verdict="FAILED", reasons=["accuracy >= 0.9: 0.5, missed"])


def for_another_cpu(manifest: dict[str, Any]) -> None:
    for entry in manifest["variants"]:
        entry["requires_isa"] = ["amx"]


@pytest.mark.parametrize(
    ("change", "tested", "says"),
    [
        (different_goldens, "differs", "differ by 5"),
        (failed_on_the_workstation, "ok", "it failed where it was made: accuracy >= 0.9"),
        pytest.param(
            for_another_cpu,
            "untested",
            "this CPU has none of amx",
            marks=pytest.mark.skipif(
                "amx_int8" in Path("/proc/cpuinfo").read_text() or os.uname().machine != "x86_64", reason="this CPU has AMX"
            ),
        ),
    ],
)
def test_a_bundle_of_which_no_variant_passes_is_refused_with_the_reason(
    root: Path, bundle: Path, tmp_path: Path, change: Any, tested: str, says: str
) -> None:
    before, other = lasting(root), changed(bundle, tmp_path / "other", change)
    said = ship(root, other).value
    assert said["outcome"] == "refused" and said["slot"] is None and said["variant"] is None
    (tried,) = [item for item in said["tried"] if item["variant"] == INT8]
    assert (tried["self_test"], tried["passed"]) == (tested, False)
    assert says in tried["reason"] and f"{INT8}: {tried['reason']}" in said["reasons"]
    assert (said["report"] is None) == (tested == "untested")
    assert lasting(root) == before and leftovers(root) == []
    assert send(root, other) == 0  # what arrived is kept: nothing travels again once the reason is gone


ANYTHING = (Gate(metric="accuracy", min=0.0),)
"""What random weights answer is worth nothing, and may serve all the same."""


@pytest.mark.parametrize(
    ("gates", "outcome", "why"),
    [
        (
            (
                *ANYTHING,
                Gate(metric="accuracy", min_ratio=0.5),
                Gate(metric="agreement", min=0.0),
                Gate(metric="speedup", min=99.0),
            ),
            "switched",
            "",
        ),
        ((*ANYTHING, Gate(metric="p50_ms", max_ratio=1e-6), Gate(metric="size_mb", max_ratio=1.0)), "switched", ""),
        ((Gate(metric="accuracy", min_ratio=99.0),), "refused", "accuracy >= 99 of FP32"),
        ((Gate(metric="p50_ms", max=1e-6), Gate(metric="speedup", min=99.0)), "refused", "p50_ms <= 1e-06"),
    ],
    ids=["answers", "sizes", "answers that miss", "times that miss"],
)
def test_a_bundle_without_fp32_is_judged_by_the_answers_of_fp32_in_its_report(
    root: Path, bundle: Path, tmp_path: Path, gates: tuple[Gate, ...], outcome: str, why: str
) -> None:
    """As where the vocabulary was cut: FP32 has another tokenizer. Times relative to it were judged where it could be timed."""
    alone = with_selected_alone(bundle, tmp_path / "alone")
    said = ship(root, with_gates(alone, tmp_path / "other", *gates)).value
    assert said["outcome"] == outcome and why in str(said["reasons"]), said["reasons"]


def test_a_gate_that_this_device_misses_or_cannot_measure_refuses_the_bundle(root: Path, bundle: Path, tmp_path: Path) -> None:
    before = lasting(root)
    times = (Gate(metric="p50_ms", max=1e-6), Gate(metric="speedup", min=1e-6))
    gates = (Gate(metric="accuracy", min=0.0), *times, Gate(metric="int8_coverage", min=0.1))
    other = signed(with_gates(bundle, tmp_path / "other", *gates), lambda manifest: different_goldens(manifest, FP32))
    said = ship(root, other).value
    assert said["outcome"] == "refused" and lasting(root) == before
    (tried,) = [item for item in said["tried"] if item["variant"] == INT8]
    assert "p50_ms <= 1e-06" in tried["reason"] and "missed" in tried["reason"]
    assert "speedup >= 1e-06: not measured on the candidate" in tried["reason"]  # FP32 does not answer as it did
    assert [gate["metric"] for gate in said["report"]["gates"]] == ["accuracy", "p50_ms", "speedup"]


def without_signature(bundle: Path) -> None:
    (bundle / "edgebert.sig").unlink()


def with_an_unlisted_file(bundle: Path) -> None:
    (bundle / "extra.bin").write_bytes(b"extra")


def with_a_flipped_bit(bundle: Path) -> None:
    flip(bundle / "onnx" / "model_quantized.onnx")


def with_other_tokens(bundle: Path) -> None:
    signed(bundle, other_tokens)


def with_a_hidden_file(bundle: Path) -> None:
    (bundle / ".cache").mkdir()
    (bundle / ".cache" / "x").write_bytes(b"x")


def without_its_report(bundle: Path) -> None:
    (bundle / "report.json").unlink()
    signed(bundle)


@pytest.mark.parametrize(
    ("tamper", "kind", "says"),
    [
        (without_signature, "TrustError", "not signed"),
        (with_an_unlisted_file, "BundleError", "extra.bin"),
        (with_a_flipped_bit, "BundleError", "altered"),
        (with_other_tokens, "BundleError", "other tokens"),
        (with_a_hidden_file, "BundleError", "no part of a bundle"),
        (without_its_report, "BundleError", "report"),
    ],
)
def test_a_bundle_that_is_not_as_it_was_made_is_refused(
    root: Path, bundle: Path, tmp_path: Path, tamper: Any, kind: str, says: str
) -> None:
    before, other = lasting(root), renamed(bundle, tmp_path / "other", "other")
    tamper(other)
    said = ship(root, other)
    assert said.failure["kind"] == kind, said.failure
    assert says in said.failure["message"] and said.code == 2
    assert lasting(root) == before and leftovers(root) == []


def test_a_device_that_pins_another_key_refuses_until_the_key_is_pinned(bundle: Path, tmp_path: Path) -> None:
    theirs = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    root = tmp_path / "device"
    send(root, bundle)
    fields: dict[str, Any] = {"device": "attic", "files": files_of(bundle), "trial": {"rounds": 1, "queries": 16, "warmup": 1}}
    refused = ask(root, "install", env=theirs, **fields)
    assert refused.failure["kind"] == "TrustError" and refused.failure["hint"]
    pem = (Path(os.environ["XDG_CONFIG_HOME"]) / "edgebert" / "keys" / "signing.pub").read_text()
    assert ask(root, "pin", env=theirs, name="laptop", pem=pem).value == {}
    assert len(ask(root, "hello", env=theirs).value["trusted"]) == 1
    assert ask(root, "install", env=theirs, **fields).value["outcome"] == "switched"
    assert ask(root, "pin", env=theirs, name="other", pem="no key").code == 2


def test_contents_that_are_not_there_are_named(root: Path, bundle: Path, tmp_path: Path) -> None:
    other = renamed(bundle, tmp_path / "other", "other")
    said = install(root, other)
    assert said.failure["kind"] == "DeviceError" and "2 of" in said.failure["message"]


def test_a_graph_that_ends_its_process_fails_alone(root: Path, bundle: Path, tmp_path: Path) -> None:
    killed = """
import os, runpy, sys
import edgebert.bundle.self_test as bundle
real = bundle.open_variant
def opened(folder, variant, threads=None):
    if variant.precision == "int8":
        os.kill(os.getpid(), 11)
    return real(folder, variant, threads)
bundle.open_variant = opened
from edgebert.devices.agent.self_test import main
sys.exit(main())
"""
    wrapper = f"""
import runpy, sys
import edgebert.measure.latency.process as process
from subprocess import Popen
def started(command, **options):
    if command[-2] == "edgebert.devices.agent.self_test":
        command = [sys.executable, "-P", "-c", {killed!r}, command[-1]]
    return Popen(command, **options)
process.subprocess.Popen = started
runpy.run_module("edgebert.devices.agent.agent", run_name="__main__")
"""
    other = renamed(bundle, tmp_path / "other", "other")
    send(root, other)
    said = install(root, other, command=(sys.executable, "-P", "-c", wrapper)).value
    assert said["outcome"] == "refused"
    tried = {item["variant"]: item for item in said["tried"]}
    assert tried[INT8]["self_test"] == "untested" and "SIGSEGV" in tried[INT8]["reason"]
    assert tried[FP32]["self_test"] == "ok" and tried[FP32]["p50_ms"] > 0


WRONG_CLOCK = """
import datetime, runpy, time
shift = {seconds} - time.time()
real = time.time
time.time = lambda: real() + shift
class Wrong(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
datetime.datetime = Wrong
runpy.run_module("edgebert.devices.agent.agent", run_name="__main__")
"""


def test_a_clock_that_is_wrong_changes_only_the_date(root: Path, bundle: Path, tmp_path: Path) -> None:
    in_1970, in_9999 = (
        (sys.executable, "-P", "-c", WRONG_CLOCK.format(seconds=seconds)) for seconds in (3600 * 24, 253_370_764_800)
    )
    other = renamed(bundle, tmp_path / "other", "other")
    send(root, other)
    assert install(root, other, command=in_1970).value["outcome"] == "switched"
    slots = ask(root, "status", command=in_9999, thorough=True).value["slots"]
    assert slots[1]["installed"].startswith("1970-01-0") and [slot["fault"] for slot in slots] == [None, None]
    assert ask(root, "rollback", command=in_9999).value["serving"] == "a"
    assert install(root, bundle, command=in_9999).value["outcome"] == "unchanged"
    assert install(root, other, command=in_9999).value["outcome"] == "switched"
    assert ask(root, "status").value["slots"][1]["installed"].startswith("9999-0")


@pytest.mark.parametrize(
    ("asked", "gates", "queries"),
    [
        (VariantTrial(rounds=5, queries=64), [], 64),
        (VariantTrial(rounds=1, queries=4), [], 16),
        (VariantTrial(rounds=3, queries=1), [Gate(metric="p50_ms", max=1)], 6),
        (VariantTrial(rounds=5, queries=64), [Gate(metric="p90_ms", max=1), Gate(metric="p99_ms", max=1)], 133),
        (VariantTrial(rounds=5, queries=200), [Gate(metric="p99_ms", max=1)], 200),
        (VariantTrial(rounds=2, queries=1), [Gate(metric="accuracy", min=0), Gate(metric="size_mb", max=1)], 8),
    ],
)
def test_as_many_queries_are_asked_as_the_gates_need(asked: VariantTrial, gates: list[Gate], queries: int) -> None:
    assert enough(asked, gates) == asked.model_copy(update={"queries": queries})


def test_reports_on_the_device_are_bounded(tmp_path: Path, shipped: Path) -> None:
    root = Root(tmp_path)
    root.reports.mkdir()
    report: Report = read_report(next((shipped / "reports").iterdir()))
    for _ in range(KEPT + 2):
        keep_report(root, report, "ab" * 32)
    assert sorted(numbered(root)) == list(range(3, KEPT + 3))
