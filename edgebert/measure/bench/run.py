"""Measures what was planned: all entries take turns in the same rounds, and one report holds them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebert.core.progress import Progress, format_seconds
from edgebert.core.store import hash_file, hash_json
from edgebert.errors import EdgebertError, InputError
from edgebert.measure.bench.answers import predict, references
from edgebert.measure.bench.models import Subject
from edgebert.measure.bench.plan_notes import plan_notes
from edgebert.measure.bench.queries import Source
from edgebert.measure.bench.sweep import Options, Planned, counted
from edgebert.measure.latency.job import Job
from edgebert.measure.latency.latency import measure_rounds, write_rows
from edgebert.measure.machine.cooling import open_cooling
from edgebert.measure.machine.environment import read_environment
from edgebert.measure.machine.machine_state import read_state
from edgebert.measure.machine.pinning import choose_cores
from edgebert.report.report import Entry, Report
from edgebert.report.rounds import Round
from edgebert.tasks import TASKS
from edgebert.tasks.base import Row
from edgebert.version import __version__

Predictions = dict[tuple[str, int], tuple[int, ...]]
"""Name of a subject and batch -> its answers."""


@dataclass(frozen=True)
class Outcome:
    """What was measured, and what ended it before its time, if anything did."""

    report: Report
    fault: EdgebertError | KeyboardInterrupt | None = None


def run(plan: Sequence[Planned], options: Options, source: Source, progress: Progress) -> Outcome:
    """Measures the plan. Where a process fails, or Ctrl-C comes, after at least one whole round, the whole rounds are kept.

    Raises:
        StageError: a process failed in the first round.
        DataError: the labels of the data are not the models'.
    """
    for note in (*plan_notes(plan, options, source), _announcement(plan, options)):
        progress.note(note)
    rows = _labelled(source, plan)
    right = _references(rows, plan)
    answers = _answers(rows, plan, progress)
    environment, before = read_environment(), read_state()  # here, for scoring is work that the measurements are none of
    rounds, fault = _measured(plan, options, progress)
    labels = {item.subject.labels for item in plan}
    tasks = {item.subject.task for item in plan}
    report = Report(
        edgebert_version=__version__,
        recipe=", ".join(dict.fromkeys(item.subject.name for item in plan)),
        task=tasks.pop() if len(tasks) == 1 else None,
        labels=labels.pop() if len(labels) == 1 else (),
        eval_data=hash_json({"rows": [dict(row) for row in rows]}) if rows else None,
        references=right,
        environment=environment.model_copy(update={"before": before, "after": read_state()}),
        gates=(),
        entries=tuple(_entry(item, measured, answers) for item, measured in zip(plan, rounds, strict=True)),
    )
    return Outcome(report, fault)


def _measured(
    plan: Sequence[Planned], options: Options, progress: Progress
) -> tuple[list[list[Round]], EdgebertError | KeyboardInterrupt | None]:
    """The whole rounds of each entry, and what kept the others from being measured."""
    whole: list[list[Round]] = []

    def keep(rounds: list[list[Round]]) -> None:
        whole[:] = rounds

    with tempfile.TemporaryDirectory(prefix="edgebert-bench-") as folder:
        jobs = [_job(item, options, Path(folder) / f"{place}.json") for place, item in enumerate(plan)]
        cooling = open_cooling(progress, options.cool_down_s)
        try:
            measure_rounds(jobs, options.rounds, progress, cooling=cooling, on_round=keep)
        except (EdgebertError, KeyboardInterrupt) as error:
            if not whole:
                raise
            return whole, error
    return whole, None


def _announcement(plan: Sequence[Planned], options: Options) -> str:
    """`2 models in 4 combinations, 5 rounds: 20 fresh processes, about 40 s`."""
    seconds = options.rounds * sum(item.seconds(options) for item in plan)
    models = len({item.subject.name for item in plan})
    combinations = f" in {counted(len(plan), 'combination')}" if len(plan) > models else ""
    processes = counted(len(plan) * options.rounds, "fresh process")
    what = f"{counted(models, 'model')}{combinations}, {counted(options.rounds, 'round')}"
    return f"{what}: {processes}, about {format_seconds(seconds)}"


def _job(item: Planned, options: Options, file: Path) -> Job:
    write_rows(file, item.asked.rows)
    subject, is_text = item.subject, item.asked.is_text
    threads, instances = item.target.threads, item.setting.instances
    return Job(
        round=0,
        model=str(subject.model),
        target=item.target,
        task=subject.task or (TASKS[0].name if is_text else None),
        labels=subject.labels,
        max_length=subject.max_length,
        pad_id=subject.pad_id,
        tokenizer=str(subject.tokenizer) if is_text else None,
        rows=str(file),
        warmup=options.warmup,
        setting=item.setting,
        settle=options.settle,
        end_to_end=options.end_to_end and is_text,
        pin=choose_cores(threads, instances) if options.pin is None else options.pin,
        seed=options.seed,
    )


def _entry(item: Planned, rounds: Sequence[Round], answers: Predictions) -> Entry:
    subject = item.subject
    return Entry(
        name=subject.name,
        role=item.role,
        stage="bench",
        artifact=subject.artifact,
        target=item.target,
        size_bytes=subject.size_bytes,
        predictions=answers.get((subject.name, item.target.batch)),
        rounds=tuple(rounds),
        setting=item.setting,
        tokenizer=hash_file(subject.tokenizer) if subject.tokenizer and item.asked.is_text else None,
    )


def _labelled(source: Source, plan: Sequence[Planned]) -> list[Row]:
    """The rows to score; none where no label was asked for."""
    return source.rows(plan[0].subject) if source.data and source.data.label else []


def _references(rows: Sequence[Row], plan: Sequence[Planned]) -> tuple[int, ...]:
    """The right answers, which all models must number alike."""
    if not rows:
        return ()
    subjects: list[Subject] = list({item.subject.name: item.subject for item in plan}.values())
    found = [references(rows, subject) for subject in subjects]
    if strange := [subject for subject in subjects if subject.labels != subjects[0].labels]:
        raise InputError(
            f"{strange[0].name} has other labels than {subjects[0].name}: {', '.join(strange[0].labels)}.",
            hint="Models are scored together where their labels are the same; drop --label to measure latency alone.",
        )
    return found[0]


def _answers(rows: Sequence[Row], plan: Sequence[Planned], progress: Progress) -> Predictions:
    found: Predictions = {}
    for item in plan if rows else ():
        key = item.subject.name, item.target.batch
        if key not in found:
            found[key] = predict(item.subject, item.target, rows, progress, whole_batches=item.probe.fixed_batch is not None)
    return found
