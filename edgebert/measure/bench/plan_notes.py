"""What a user has to know of a plan before it is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgebert.measure.bench.data_file import MOST_ROWS
from edgebert.measure.bench.queries import Source
from edgebert.measure.bench.sweep import Options, Planned, counted, way_out
from edgebert.measure.machine import cgroup
from edgebert.measure.machine.environment import usable_cores
from edgebert.measure.machine.kernel_files import THIS_MACHINE, KernelFiles
from edgebert.tasks import TASKS, get_task


def plan_notes(plan: Sequence[Planned], options: Options, source: Source, files: KernelFiles = THIS_MACHINE) -> list[str]:
    """One line for each thing that is unusual."""
    notes = [*_apart(plan), *_cut(plan, source)]
    quota = cgroup.cpu_quota(files)
    for item in plan:
        notes += _crowded(item, len(options.pin or ()) or usable_cores(), quota)
        if item.checked_elsewhere:
            notes.append(f"{item.subject.name} is measured at another batch than its answers were checked at")
        if item.subject.serving is None and item.setting.lengths == "data":
            notes.append(f"{item.subject.name} has no tokenizer: it is asked token ids, as many as the texts have words")
    return list(dict.fromkeys(notes))


def _crowded(item: Planned, cores: int, quota: float | None) -> Iterator[str]:
    """Where more threads are busy than may run."""
    busy = item.target.threads * item.setting.instances
    many = counted(item.target.threads, "thread")
    many += f" in {item.setting.instances} instances" if item.setting.instances > 1 else ""
    if busy > cores:
        yield f"warning: {many} on {counted(cores, 'core')}: they wait for each other, and latencies say little"
    elif quota is not None and busy > quota:
        yield f"warning: {many}, and this container may use {quota:g} cores' time: it is stopped again and again meanwhile"


def _apart(plan: Sequence[Planned]) -> Iterator[str]:
    """Candidates that no baseline is like."""
    places = [
        {(item.target.threads, item.target.batch) for item in plan if item.role == role} for role in ("baseline", "candidate")
    ]
    if all(places) and not places[0] & places[1]:
        baseline, others = map(_told, places)
        yield f"warning: nothing will be compared, for the baseline runs at {baseline} and the others at {others}"
        yield f"  to measure all alike: {way_out(places[1])}"


def _told(places: set[tuple[int, int]]) -> str:
    return " or ".join(f"{counted(threads, 'thread')} and batch {batch}" for threads, batch in sorted(places))


def _cut(plan: Sequence[Planned], source: Source) -> Iterator[str]:
    """Files of which only the first rows are used."""
    for item in plan:
        task = get_task(item.subject.task) if item.subject.task else TASKS[0]
        if item.lengths.is_cut:
            yield f"{item.lengths.file} has more than {MOST_ROWS:,} lengths: the first {MOST_ROWS:,} are used"
        if item.lengths.name == "data" and source.data and source.data.is_cut(task):
            yield f"{source.data.path} has more than {MOST_ROWS:,} rows: the first {MOST_ROWS:,} are used"
