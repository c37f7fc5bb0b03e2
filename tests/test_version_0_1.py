"""What version 0.1 made is read, run, verified, compared, shipped and rolled back; tests/version_0_1 holds such a run.

Version 0.1 calls an intermediate a step and the roofline ratio floor_ratio, and times the reference workload as a pulse.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import renamed
from conftest import Result
from sklearn.metrics import f1_score

from edgebert.bundle.manifest import BundleManifest
from edgebert.report.compare.comparison import compare
from edgebert.report.file import read_report, report_text, write_report
from edgebert.report.text.run_table import status_of
from edgebert.report.verdict import judge

HERE = Path(__file__).parent / "version_0_1"
BEST = "onnxruntime/int8-dynamic"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of version 0.1, whose bundle was signed with key.pub."""
    return Path(shutil.copytree(HERE / "run", tmp_path / "run"))


@pytest.fixture
def trusting(cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command line of a user who trusts the key that signed the run's bundle."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert cli("keys", "trust", HERE / "key.pub", "--name", "version-0-1").code == 0
    return cli


def test_a_report_is_read_by_todays_names_judged_as_then_and_written_by_todays_names(tmp_path: Path) -> None:
    report = read_report(HERE / "run" / "report.json")
    verdict = judge(report)
    assert [status_of(verdict, entry) for entry in report.entries] == ["FP32", "intermediate", "PASSED, best"]
    assert [gate.metric for gate in report.gates] == ["accuracy", "roofline_ratio"]
    assert all(len(item.reference_workload_ns) for entry in report.entries for item in entry.rounds)
    assert report.value(report.entries[2], "roofline_ratio") == pytest.approx(39.48, abs=0.01)
    write_report(tmp_path / "report.json", report)
    written = (tmp_path / "report.json").read_text()
    assert not [
        name for name in ("floor_ratio", "pulse_ns", "kept_float", "predictions", "references") if f'"{name}"' in written
    ]
    again = read_report(tmp_path / "report.json")
    assert again.model_copy(update={"sha256": report.sha256}) == report


def test_a_report_has_the_accuracy_and_agreement_of_its_predictions() -> None:
    content, report = json.loads((HERE / "run" / "report.json").read_text()), read_report(HERE / "run" / "report.json")
    references, fp32 = (np.array(content["references"]), np.array(content["entries"][0]["predictions"]))
    assert content["schema_version"] == 2 and content["entries"][0]["role"] == "baseline"
    for old, entry in zip(content["entries"], report.entries, strict=True):
        found = np.array(old["predictions"])
        assert report.value(entry, "accuracy") == np.mean(found == references)
        assert report.value(entry, "agreement") == np.mean(found == fp32)
        assert report.value(entry, "macro_f1") == pytest.approx(f1_score(references, found, average="macro"))


def test_a_recipe_with_former_names_is_valid(cli: Callable[..., Result]) -> None:
    former = ("--set", "gates=[{metric: floor_ratio, max: 9.0}]", "--set", "measure.goldens=4")
    assert cli("validate", "quickstart", *former).code == 0


def test_a_manifest_is_read_as_it_was() -> None:
    text = (HERE / "run" / "bundle" / "edgebert.json").read_text()
    assert json.loads(BundleManifest.model_validate_json(text).model_dump_json(exclude_unset=True)) == json.loads(text)


def test_a_bundle_is_trusted_by_its_key_verified_and_run(trusting: Callable[..., Result], run: Path) -> None:
    verified = trusting("verify", run / "bundle", "--json")
    assert verified.code == 0, verified.err
    assert [(item["variant"], item["state"]) for item in json.loads(verified.out)["variants"]] == [(BEST, "ok")]
    answered = trusting("run", run / "bundle", "a good film", "--json")
    assert answered.code == 0 and json.loads(answered.out)[0]["label"] in ("negative", "positive")


def test_reports_of_then_and_now_are_compared_and_drawn(cli: Callable[..., Result], run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    again.write_text(report_text(read_report(run / "report.json")))
    compared = cli("compare", run, again, "--json")
    assert compared.code == 0, compared.err
    old, new = read_report(run / "report.json"), read_report(again)
    for pair in compare(old, new).pairs:
        scored = {item.metric: item.reason for item in pair.findings if item.metric in ("accuracy", "macro_f1", "agreement")}
        assert scored and set(scored.values()) == {"the same model gave the same answers"}
    drawn = cli("report", run, "--out", tmp_path / "page.html")
    assert drawn.code == 0 and (tmp_path / "page.html").stat().st_size > 0


@pytest.mark.slow
def test_a_bundle_is_shipped_served_and_rolled_back_to(trusting: Callable[..., Result], run: Path, tmp_path: Path) -> None:
    device, quick = tmp_path / "device", ("--queries", "4", "--rounds", "1", "-q")
    todays = renamed(run / "bundle", tmp_path / "todays", "todays")
    for bundle in (run / "bundle", todays):
        shipped = trusting("ship", bundle, device, *quick)
        assert shipped.code == 0, shipped.err
    assert trusting("rollback", device, "-q").code == 0
    status = json.loads(trusting("devices", "status", device, "--json", "-q").out)[0]["status"]
    assert [slot["bundle"] for slot in status["slots"] if slot["slot"] == status["serving"]] == ["recipe"], status
