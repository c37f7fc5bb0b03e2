"""Runs of `edgebert compress` for benchmarks: the recipe, the command, and the report and bundle that it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from peers.contest import LABELS, Contender

from edgebert.bundle.manifest import BundleManifest, ManifestEntry
from edgebert.bundle.read import read_bundle
from edgebert.report.entry import Entry
from edgebert.report.file import read_report
from edgebert.report.report import Report
from edgebert.report.text.search import choice_lines


@dataclass(frozen=True)
class Compressed:
    """A run that has ended: its folder, exit code and output."""

    folder: Path
    code: int
    output: str

    @cached_property
    def report(self) -> Report:
        """report.json."""
        return read_report(self.folder / "report.json")

    @cached_property
    def manifest(self) -> BundleManifest:
        """The manifest of the bundle, whose files are checked."""
        return read_bundle(self.folder / "bundle")

    @property
    def entry(self) -> Entry:
        """The report's entry of the selected variant."""
        return next(entry for entry in self.report.entries if entry.name == self.manifest.selected)

    @property
    def chosen(self) -> Contender:
        """The selected variant, served as the bundle says, under the name `edgebert`."""
        return self._planned("edgebert", next(one for one in self.manifest.variants if one.name == self.manifest.selected))

    def baseline(self, runtime: str, name: str) -> Contender:
        """The FP32 variant of the bundle for a runtime."""
        found = (one for one in self.manifest.variants if one.role == "baseline" and one.target.runtime == runtime)
        return self._planned(name, next(found))

    @property
    def choice(self) -> str:
        """The choices of the search for the selected variant, and the share that runs in INT8."""
        return "\n".join([*choice_lines(self.entry), f"  int8_coverage {self.coverage:.3f}"])

    @property
    def coverage(self) -> float:
        """Share of the arithmetic that runs in INT8; NaN, which passes no bound, if it was not counted."""
        found = self.report.value(self.entry, "int8_coverage")
        return float("nan") if found is None else found

    def _planned(self, name: str, variant: ManifestEntry) -> Contender:
        return Contender(name, self.folder / "bundle" / variant.file, variant.target)


def compress(recipe: Mapping[str, Any], folder: Path, store: Path, name: str) -> Compressed:
    """Runs a recipe; a gate that fails is a result as well."""
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(recipe))  # JSON is YAML
    command = [sys.executable, "-m", "edgebert", "compress", str(file), "--quiet"]
    command += ["--store", str(store), "--out", str(folder / name)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    print(f"{name}: edgebert compress", file=sys.stderr, flush=True)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"{name}: edgebert ended with code {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
    return Compressed(folder / name, done.returncode, done.stdout)


def recipe(
    model: Path,
    *,
    stages: Sequence[Any],
    targets: Sequence[Mapping[str, Any]],
    data: Mapping[str, Any],
    gates: Sequence[Mapping[str, Any]],
    measure: Mapping[str, int],
    max_length: int,
) -> dict[str, Any]:
    """The recipe of a text classifier with two labels."""
    return {
        "model": str(model),
        "task": {"name": "text-classification", "labels": list(LABELS), "max_length": max_length},
        "data": data,
        "stages": list(stages),
        "targets": list(targets),
        "gates": list(gates),
        "measure": dict(measure),
    }
