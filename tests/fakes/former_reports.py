"""Reports as versions 1 and 2 of their schema had them: a label's number for each row, and former names."""

from __future__ import annotations

from typing import Any

from edgebert.core.store import hash_json
from edgebert.report.entry import FORMER_ROLES
from edgebert.report.metric_table import FORMER_NAMES
from edgebert.report.row_statistics import Numbers
from edgebert.report.samples import Samples

ROLES = {present: former for former, present in FORMER_ROLES.items()}
METRICS = {present: former for former, present in FORMER_NAMES.items()}


def numbers(entry: dict[str, Any], column: int) -> list[int] | None:
    """Numbers of the predicted (0) or of the right labels (1), as macro F1 has them; None where nothing was scored."""
    kept = entry["statistics"].get("macro_f1")
    return [int(value) for value in Numbers._validated(kept["columns"][column]).values] if kept else None


def version_2(content: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a report of today as version 2 had it, without a checksum."""
    known = [right for entry in content["entries"] if (right := numbers(entry, 1))]
    old = {name: value for name, value in content.items() if name not in ("right_answers", "sha256")}
    gates = [{**gate, "metric": METRICS.get(gate["metric"], gate["metric"])} for gate in content["gates"]]
    entries = [_entry_of_version_2(entry) for entry in content["entries"]]
    return {**old, "schema_version": 2, "references": known[0] if known else [], "gates": gates, "entries": entries}


def signed(content: dict[str, Any]) -> dict[str, Any]:
    """The JSON with the checksum of its content."""
    return {**content, "sha256": hash_json(content)}


def version_1(content: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a report of today as the first version had it: samples as lists, and of what was measured only a part."""
    old = {**version_2(content), "schema_version": 1}
    del old["edgebert_version"]
    for entry in old["entries"]:
        for name in ("macs", "parameters", "encoder", "coverage", "search", "setting", "tokenizer"):
            entry.pop(name)
        kept = ("round", "latencies_ns", "tokenise_ns", "lengths", "load_ns", "peak_rss_bytes")
        entry["rounds"] = [{name: item[name] for name in kept} for item in entry["rounds"]]
        for item in entry["rounds"]:
            item.update({name: list(Samples.unpacked(item[name])) for name in ("latencies_ns", "tokenise_ns", "lengths")})
    kept = ("cpu", "isa", "cores", "machine", "system", "python", "packages", "load_average")
    old["environment"] = {name: old["environment"][name] for name in kept}
    return old


def _entry_of_version_2(entry: dict[str, Any]) -> dict[str, Any]:
    old = {name: value for name, value in entry.items() if name != "statistics"}
    rounds = [_renamed(item, "reference_workload_ns", "pulse_ns") for item in entry["rounds"]]
    search = _renamed(entry["search"], "excluded_nodes", "kept_float") if entry["search"] else None
    role = ROLES.get(entry["role"], entry["role"])
    return {**old, "role": role, "predictions": numbers(entry, 0), "rounds": rounds, "search": search}


def _renamed(item: dict[str, Any], present: str, former: str) -> dict[str, Any]:
    return {former if name == present else name: value for name, value in item.items()}
