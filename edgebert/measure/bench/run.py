"""Measures a plan: all entries take turns in the same rounds, and one report holds them; and notes what is unusual in it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebert.core.progress import Progress, format_seconds
from edgebert.core.store import hash_file, hash_json
from edgebert.errors import EdgebertError
from edgebert.measure.bench.data_file import MOST_ROWS
from edgebert.measure.bench.queries import QuerySource
from edgebert.measure.bench.scoring import Predictions, common_references, labelled_rows, predict_plan
from edgebert.measure.bench.sweep import BenchOptions, Planned
from edgebert.measure.latency.job import RoundJob
from edgebert.measure.latency.latency import measure_rounds, write_rows
from edgebert.measure.machine import cgroup
from edgebert.measure.machine.cooling import open_cooling
from edgebert.measure.machine.cores import choose_cores
from edgebert.measure.machine.environment import read_environment, usable_cores
from edgebert.measure.machine.kernel_files import THIS_MACHINE, KernelFiles
from edgebert.measure.machine.machine_state import read_state
from edgebert.measure.predictions import statistics_of, with_agreement
from edgebert.report.entry import Entry
from edgebert.report.report import Report
from edgebert.report.rounds import Round
from edgebert.report.text.bench_table import counted, way_out
from edgebert.tasks import TASKS
from edgebert.version import __version__


@dataclass(frozen=True)
class BenchRun:
    """The report of the measurements, and the error or interrupt that ended them early, if one did."""

    report: Report
    fault: EdgebertError | KeyboardInterrupt | None = None


def run(plan: Sequence[Planned], options: BenchOptions, source: QuerySource, progress: Progress) -> BenchRun:
    """Measures the plan. After a failure or Ctrl-C the whole rounds are kept, if there was one.

    Raises:
        StageError: a process failed in the first round.
        DataError: the labels of the data are not the models'.
    """
    for note in (*plan_notes(plan, options, source), _announcement(plan, options)):
        progress.note(note)
    rows = labelled_rows(source, plan)
    references = common_references(rows, plan)
    predictions = predict_plan(rows, plan, progress)
    environment, before = read_environment(), read_state()  # after scoring, whose load is not part of the measurements
    rounds, fault = _measured(plan, options, progress)
    labels = {item.model.labels for item in plan}
    tasks = {item.model.task for item in plan}
    report = Report(
        edgebert_version=__version__,
        recipe=", ".join(dict.fromkeys(item.model.name for item in plan)),
        task=tasks.pop() if len(tasks) == 1 else None,
        labels=labels.pop() if len(labels) == 1 else (),
        eval_data=hash_json({"rows": [dict(row) for row in rows]}) if rows else None,
        right_answers=hash_json(references) if rows else None,
        environment=environment.model_copy(update={"before": before, "after": read_state()}),
        gates=(),
        entries=_entries(plan, rounds, predictions, references),
    )
    return BenchRun(report, fault)


def _measured(
    plan: Sequence[Planned], options: BenchOptions, progress: Progress
) -> tuple[list[list[Round]], EdgebertError | KeyboardInterrupt | None]:
    """The whole rounds of each entry, and the error or interrupt that ended the measurement early."""
    whole: list[list[Round]] = []

    def keep(rounds: list[list[Round]]) -> None:
        whole[:] = rounds

    with tempfile.TemporaryDirectory(prefix="edgebert-bench-") as folder:
        jobs = [_job(item, options, Path(folder) / f"{index}.json") for index, item in enumerate(plan)]
        cooling = open_cooling(progress, options.cool_down_s)
        try:
            measure_rounds(jobs, options.rounds, progress, cooling=cooling, on_round=keep)
        except (EdgebertError, KeyboardInterrupt) as error:
            if not whole:
                raise
            return whole, error
    return whole, None


def _announcement(plan: Sequence[Planned], options: BenchOptions) -> str:
    """`2 models in 4 combinations, 5 rounds: 20 fresh processes, about 40 s`."""
    seconds = options.rounds * sum(item.seconds(options) for item in plan)
    models = len({item.model.name for item in plan})
    combinations = f" in {counted(len(plan), 'combination')}" if len(plan) > models else ""
    processes = counted(len(plan) * options.rounds, "fresh process")
    what = f"{counted(models, 'model')}{combinations}, {counted(options.rounds, 'round')}"
    return f"{what}: {processes}, about {format_seconds(seconds)}"


def _job(item: Planned, options: BenchOptions, file: Path) -> RoundJob:
    write_rows(file, item.asked.rows)
    model, is_text = item.model, item.asked.is_text
    threads, instances = item.target.threads, item.setting.instances
    return RoundJob(
        round=0,
        model=str(model.file),
        target=item.target,
        task=model.task or (TASKS[0].name if is_text else None),
        task_options=dict(model.task_options),
        labels=model.labels,
        max_length=model.max_length,
        pad_id=model.pad_id,
        tokenizer=str(model.tokenizer) if is_text else None,
        tokenizer_sha256=model.tokenizer_sha256,
        truncation_side=model.truncation_side,
        signed=model.signed,
        rows=str(file),
        warmup=options.warmup,
        setting=item.setting,
        settle=options.settle,
        end_to_end=options.end_to_end and is_text,
        pin=choose_cores(threads, instances) if options.pin is None else options.pin,
        seed=options.seed,
    )


def _entries(
    plan: Sequence[Planned], rounds: Sequence[Sequence[Round]], predictions: Predictions, references: Sequence[Any]
) -> tuple[Entry, ...]:
    answers = [predictions.get((item.model.name, item.target.batch), []) for item in plan]
    entries = [_entry(*one, references) for one in zip(plan, rounds, answers, strict=True)]
    tasks = [item.model.answered_task for item in plan if item.model.task]  # models that are scored together have one
    return with_agreement(tasks[0] if tasks else TASKS[0], entries, answers)


def _entry(item: Planned, rounds: Sequence[Round], predictions: Sequence[Any], references: Sequence[Any]) -> Entry:
    model = item.model
    return Entry(
        name=model.name,
        role=item.role,
        stage="bench",
        artifact=model.artifact,
        target=item.target,
        size_bytes=model.size_bytes,
        statistics=statistics_of(model.answered_task, predictions, references, model.labels)
        if predictions and model.task
        else {},
        rounds=tuple(rounds),
        setting=item.setting,
        tokenizer=(model.tokenizer_sha256 or hash_file(model.tokenizer)) if model.tokenizer and item.asked.is_text else None,
    )


def plan_notes(
    plan: Sequence[Planned], options: BenchOptions, source: QuerySource, files: KernelFiles = THIS_MACHINE
) -> list[str]:
    """One line for each thing that is unusual."""
    notes = [*_apart(plan), *_cut(plan, source)]
    quota = cgroup.cpu_quota(files)
    for item in plan:
        notes += _crowded(item, len(options.pin or ()) or usable_cores(), quota)
        if item.checked_elsewhere:
            notes.append(f"{item.model.name} is measured at another batch than its answers were checked at")
        if item.model.serving is None and item.setting.lengths == "data":
            notes.append(f"{item.model.name} has no tokenizer: it gets token ids, as many as the texts have words")
    return list(dict.fromkeys(notes))


def _crowded(item: Planned, cores: int, quota: float | None) -> Iterator[str]:
    """Warnings of more busy threads than can run at once."""
    busy = item.target.threads * item.setting.instances
    many = counted(item.target.threads, "thread")
    many += f" in {item.setting.instances} instances" if item.setting.instances > 1 else ""
    if busy > cores:
        yield f"warning: {many} on {counted(cores, 'core')}: they wait for each other, and latencies say little"
    elif quota is not None and busy > quota:
        yield f"warning: {many}, and this container may use {quota:g} cores' time: it is stopped again and again meanwhile"


def _apart(plan: Sequence[Planned]) -> Iterator[str]:
    """Warnings of candidates that run with other threads and batches than every baseline."""
    settings = [
        {(item.target.threads, item.target.batch) for item in plan if item.role == role} for role in ("baseline", "candidate")
    ]
    if all(settings) and not settings[0] & settings[1]:
        baseline, others = map(_worded, settings)
        yield f"warning: nothing will be compared, for the baseline runs at {baseline} and the others at {others}"
        yield f"  to measure all alike: {way_out(settings[1])}"


def _worded(settings: set[tuple[int, int]]) -> str:
    return " or ".join(f"{counted(threads, 'thread')} and batch {batch}" for threads, batch in sorted(settings))


def _cut(plan: Sequence[Planned], source: QuerySource) -> Iterator[str]:
    """Notes on files of which only the first rows are used."""
    for item in plan:
        if item.lengths.is_cut:
            yield f"{item.lengths.file} has more than {MOST_ROWS:,} lengths: the first {MOST_ROWS:,} are used"
        if item.lengths.name == "data" and source.data and source.data.is_cut(item.model.answered_task):
            yield f"{source.data.path} has more than {MOST_ROWS:,} rows: the first {MOST_ROWS:,} are used"
