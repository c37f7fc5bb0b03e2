"""Sections: the lineage of the models (steps, data, recipe), and the commands that reproduce the report."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgebert.report.entry import Entry
from edgebert.report.page.parts import Block, Cell, PageColumn, Section, Table, number, short, text_columns, words
from edgebert.report.page.source import PageSource, RunRecord
from edgebert.report.rounds import Setting

HASH = 12
"""Characters of a hash that are shown."""
FACTS_NOT_SHOWN = ("search",)
"""Facts of a step with a section of their own."""


def section(source: PageSource) -> Section:
    """The section: steps, data and recipe of the run; without a record of the run, the hash of every model."""
    record = source.record
    if record is None:
        return Section("lineage", "What was measured", folded=(_artifacts(source),))
    lead = [f"Started {moment(record.started)}, took {short(record.seconds)} s."] if record.started and record.seconds else []
    lead += [f"Left out, for no stage makes a candidate for it: {', '.join(record.left_out)}."] if record.left_out else []
    tables = (_steps(record), *([_data(record)] if record.data else []))
    recipe = Block("The recipe as it ran", recipe_text(record.recipe), folded=True)
    return Section("lineage", "Lineage and recipe", tuple(lead), tables=tables, folded=(_artifacts(source),), blocks=(recipe,))


def _steps(record: RunRecord) -> Table:
    made = {step.key: step.step for step in record.steps}
    rows = []
    if record.model:
        rows.append((words("model"), words(_compact(record.model.origin)), _hash(record.model.sha256), Cell(""), words("")))
    for step in record.steps:
        facts = {name: value for name, value in step.facts.items() if name not in FACTS_NOT_SHOWN}
        seconds = Cell(f"{short(step.seconds)}{' (store)' if step.found_in_store else ''}", step.seconds)
        parent = made.get(step.parent or "", "model")
        rows.append((words(step.step), words(parent), _hash(step.sha256), seconds, words(_compact(facts))))
    columns = (
        *text_columns("step", "made from", "sha256"),
        PageColumn("seconds", meaning="when it was made; (store): it was made by an earlier run"),
        PageColumn("facts", numeric=False),
    )
    return Table("Steps of the run", columns, tuple(rows), sortable=False)


def _data(record: RunRecord) -> Table:
    rows = tuple(
        (words(role), number(float(data.rows), "{:,.0f}"), _hash(data.sha256)) for role, data in sorted(record.data.items())
    )
    return Table("Data", (PageColumn("role", numeric=False), PageColumn("rows"), PageColumn("sha256", numeric=False)), rows)


def _artifacts(source: PageSource) -> Table:
    rows = tuple(
        (words(label), words(entry.stage), words(entry.target.name), _hash(entry.artifact)) for label, entry in source.labelled
    )
    titles = ("model", "step", "target", "sha256")
    return Table("Artifact of each model", text_columns(*titles), rows)


def moment(started: str) -> str:
    """`2026-11-25T02:45:24Z` as `2026-11-25 02:45 UTC`; other texts are returned unchanged."""
    day, mark, time = started.partition("T")
    return f"{day} {time[:5]} UTC" if mark and time.endswith("Z") else started


def _hash(text: str) -> Cell:
    return Cell(text[:HASH], text)


def _compact(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in facts.items() if value is not None)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """A recipe as YAML that compress reads: fields that are not set are left out, stages have their written form."""
    return "\n".join(_yaml(_as_written(recipe), "")) + "\n"


def _as_written(recipe: Mapping[str, Any]) -> dict[str, Any]:
    stages = [
        {stage["stage"]: _set({name: value for name, value in stage.items() if name != "stage"})}
        for stage in recipe.get("stages", [])
    ]
    return {**_set(recipe), **({"stages": stages} if stages else {})}


def _set(value: Any) -> Any:
    """The value without fields that are null."""
    if isinstance(value, Mapping):
        return {name: _set(item) for name, item in value.items() if item is not None}
    return [_set(item) for item in value] if isinstance(value, list | tuple) else value


def _yaml(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Lines of YAML: block style for mappings, JSON for values without mappings and for list items, which is YAML too."""
    for name, item in value.items():
        if isinstance(item, Mapping) and item:
            yield f"{indent}{_key(name)}:"
            yield from _yaml(item, indent + "  ")
        elif isinstance(item, list) and any(isinstance(part, Mapping) for part in item):
            yield f"{indent}{_key(name)}:"
            yield from (f"{indent}  - {json.dumps(part, ensure_ascii=False)}" for part in item)
        else:
            yield f"{indent}{_key(name)}: {json.dumps(item, ensure_ascii=False)}"


def _key(name: str) -> str:
    return name if name.isidentifier() else json.dumps(name, ensure_ascii=False)


def again(source: PageSource) -> Section:
    """The section: the commands that reproduce the report."""
    record = source.record
    if record is None:
        return _bench_again(source)
    name = shlex.quote(source.report.recipe)
    commands = f"pip install 'edgebert[compress]=={_version(source)}'\nedgebert compress {name}.yaml   # the recipe above\n"
    lead = (
        "Save the recipe above where the paths that it names hold. The hashes above tell whether data and models are the same; "
        "latencies are measured anew, and are those of the machine that runs it.",
    )
    return Section("again", "How to reproduce it", lead, blocks=(Block("Commands", commands),))


def _bench_again(source: PageSource) -> Section:
    """The section for a report of bench: its command. Empty for a report of compress without a record of the run."""
    entries = source.report.entries
    if source.report.gates or any(entry.coverage for entry in entries):
        return Section("again", "How to reproduce it")
    if command := source.report.command:
        lead = ("The folders that the files lay in are left out; the sha256 of each model is in the table above.",)
    else:
        lead = ("MODEL stands for the model as it was named then; its sha256 is in the table above.",)
        command = bench_command(entries)
    return Section("again", "How to reproduce it", lead, blocks=(Block("Command", command + "\n"),))


def bench_command(entries: Sequence[Entry]) -> str:
    """A command of bench with the options that differ from its defaults."""
    settings, rounds = [entry.setting for entry in entries], max(len(entry.rounds) for entry in entries)
    queries = max((len(item.latencies_ns) for entry in entries for item in entry.rounds), default=0)
    options: list[tuple[str, list[object]]] = [
        ("--scenario", [setting.scenario for setting in settings]),
        ("--streams", [setting.streams for setting in settings if setting.streams != 1]),
        ("--instances", [setting.instances for setting in settings if setting.instances != 1]),
        ("--rate", [f"{setting.rate:g}" for setting in settings if setting.rate]),
        ("--bound", [f"{setting.bound_ms:g}" for setting in settings if setting.bound_ms]),
        (
            "--bound-percent",
            [setting.bound_percent for setting in settings if setting.bound_ms and setting.bound_percent != 99],
        ),
        ("--lengths", _lengths(settings)),
    ]
    words = ["edgebert", "bench", "MODEL"]
    words += ["--baseline", "MODEL"] if any(entry.role == "baseline" for entry in entries) else []
    words += [str(part) for name, values in options for value in dict.fromkeys(values) for part in (name, value)]
    for name, counts in (
        ("--threads", [entry.target.threads for entry in entries]),
        ("--batch", [entry.target.batch for entry in entries]),
    ):
        words += [name, ",".join(map(str, sorted(set(counts))))]
    driver = next((setting.driver for setting in settings if setting.driver != "edgebert"), None)
    words += ["--driver", driver] if driver else []
    return shlex.join([*words, "--queries", str(queries), "--rounds", str(rounds)])


def _lengths(settings: Sequence[Setting]) -> list[object]:
    """Values of `--lengths`, a log without its ending; empty where all lengths are of the data, the default."""
    named = [re.sub(r"^log(-(.*))?$", lambda log: f"log:{log[2] or 'FILE'}", setting.lengths) for setting in settings]
    return list(named) if set(named) != {"data"} else []


def _version(source: PageSource) -> str:
    return source.report.edgebert_version or source.report.environment.packages.get("edgebert", "")
