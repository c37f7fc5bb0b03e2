"""The sweep: every combination of model, load, batch, threads and length, each one entry of the report."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from edgebert.core.progress import Progress
from edgebert.errors import InputError
from edgebert.measure.bench.models import BenchModel
from edgebert.measure.bench.probe import probe
from edgebert.measure.bench.probe_worker import Probe
from edgebert.measure.bench.queries import Asked, Lengths, QuerySource
from edgebert.measure.latency import loadgen
from edgebert.measure.latency.job import texts_per_query
from edgebert.report.entry import SAMPLES_FOR
from edgebert.report.rounds import Scenario, Setting
from edgebert.report.text.bench_table import counted
from edgebert.runtimes.target import Target

Driver = Literal["edgebert", "mlcommons-loadgen"]
MOST_TEXTS = 1_000_000
"""That one process is asked; more would only fill the memory."""
PROCESS_S, SETTLING = 0.5, 100
"""For the plan's guess: seconds of a process beside what the probe saw, and queries until latency has settled."""


@dataclass(frozen=True)
class BenchOptions:
    """How all models are measured."""

    scenarios: tuple[Scenario, ...] = ("single-stream",)
    streams: int | None = None
    instances: int = 1
    rates: tuple[float, ...] = ()
    bound_ms: float | None = None
    bound_percent: int = 99
    batches: tuple[int, ...] = ()
    """Empty: as each model runs by itself. So are `threads`."""
    threads: tuple[int, ...] = ()
    lengths: tuple[Lengths, ...] = (Lengths("data"),)
    queries: int = 100
    rounds: int = 10
    warmup: int = 20
    settle: bool = True
    end_to_end: bool = True
    pin: tuple[int, ...] | None = None
    """None: chosen for the threads of each; empty: not pinned."""
    seed: int = 0
    driver: Driver = "edgebert"
    cool_down_s: float = 120.0
    """At most, in all, that processes wait for a hot CPU."""

    def check(self) -> None:
        """Raises InputError for options that do not go together."""
        server = "server" in self.scenarios
        if server and not self.rates:
            raise InputError("The server scenario needs a rate.", hint="Say how many queries arrive a second: --rate 50")
        for name, given in (("--rate", bool(self.rates)), ("--bound", self.bound_ms is not None)):
            if given and not server:
                raise InputError(f"{name} belongs to the server scenario.", hint=f"Add --scenario server, or drop {name}.")
        for name, values in (("--rate", self.rates), ("--bound", (self.bound_ms,) if self.bound_ms is not None else ())):
            if strange := [value for value in values if not 0 < value < math.inf]:
                raise InputError(f"{name} {strange[0]:g} is not a number above 0.", hint=f"For example {name} 50")
        if self.instances > 1 and set(self.scenarios) == {"single-stream"}:
            hint = "Add --scenario multi-stream, offline or server."
            raise InputError("--instances is for several queries at once, and single-stream sends one.", hint=hint)
        if self.streams and "multi-stream" not in self.scenarios:
            raise InputError("--streams belongs to the multi-stream scenario.", hint="Add --scenario multi-stream.")
        if self.bound_percent not in SAMPLES_FOR:
            known = ", ".join(str(percent) for percent in SAMPLES_FOR if percent == int(percent))
            raise InputError(f"--bound-percent {self.bound_percent} is not measured.", hint=f"Take one of {known}.")

    def settings(self) -> list[tuple[Setting, Lengths]]:
        """Every load, without what is asked."""
        loads: list[Setting] = []
        for scenario in dict.fromkeys(self.scenarios):
            instances = 1 if scenario == "single-stream" else self.instances
            common = {"scenario": scenario, "instances": instances, "driver": self.driver}
            if scenario == "server":
                bound = {"bound_ms": self.bound_ms, "bound_percent": self.bound_percent}
                loads += [Setting(**common, **bound, rate=rate) for rate in dict.fromkeys(self.rates)]
            else:
                loads.append(Setting(**common, streams=(self.streams or 8) if scenario == "multi-stream" else 1))
        return [
            (load.model_copy(update={"lengths": lengths.name}), lengths)
            for load, lengths in itertools.product(loads, dict.fromkeys(self.lengths))
        ]


@dataclass(frozen=True)
class Planned:
    """One entry to be measured."""

    bench_model: BenchModel
    role: Literal["baseline", "candidate"]
    target: Target
    setting: Setting
    asked: Asked
    probe: Probe
    lengths: Lengths

    @property
    def checked_elsewhere(self) -> bool:
        """Whether a bundle's variant is measured at another batch than its answers were checked at."""
        return self.bench_model.checked_at is not None and self.bench_model.checked_at.batch != self.target.batch

    def seconds(self, options: BenchOptions) -> float:
        """About how long one of its processes takes."""
        served = self.probe.query_s / self.probe.texts * texts_per_query(self.setting, self.target)
        if self.setting.rate and served:
            served = max(served, 1 / self.setting.rate)
        shapes = {self.target.padded_length(length, self.bench_model.max_length) for length in self.asked.lengths}
        load = self.probe.open_s + self.probe.first_s * (len(shapes) if self.target.runtime == "openvino" else 1)
        started = max(self.probe.process_s - self.probe.open_s - self.probe.first_s, 0)
        timed = options.queries * (2 if options.end_to_end and self.asked.is_text else 1)
        warmup = max(options.warmup, SETTLING) if options.settle else options.warmup
        return PROCESS_S + started + load + (warmup + timed) * served


def make_plan(
    bench_models: Sequence[tuple[BenchModel, Literal["baseline", "candidate"]]],
    options: BenchOptions,
    source: QuerySource,
    progress: Progress,
) -> list[Planned]:
    """Looks at each model once and lays out every combination, those of one load together.

    Raises:
        InputError: options do not go together, or a model cannot be asked so.
    """
    options.check()
    if options.driver == "mlcommons-loadgen":
        loadgen.require()
    seen = [_look(bench_model, options, source, progress) for bench_model, _ in bench_models]
    if any(role == "baseline" for _, role in bench_models):
        seen = _alike(seen, options, progress)
    plan = []
    for (setting, lengths), index in itertools.product(options.settings(), _places(options)):
        for (bench_model, found), (_, role) in zip(seen, bench_models, strict=True):
            target = _target(bench_model, *index)
            _check_streams(bench_model, setting, found)
            asked = _ask(bench_model, lengths, setting, target, options, source)
            setting_asked = setting.model_copy(update={"queries": asked.sha256})
            plan.append(Planned(bench_model, role, target, setting_asked, asked, found, lengths))
    return plan


def _alike(
    seen: Sequence[tuple[BenchModel, Probe]], options: BenchOptions, progress: Progress
) -> list[tuple[BenchModel, Probe]]:
    """With a baseline: what leaves threads or batch open takes those of the first that does not, or nothing could be compared.

    A bundle says both, a graph of a fixed batch says that.
    """
    settled = {
        "threads": None if options.threads else next((item.target.threads for item, _ in seen if item.checked_at), None),
        "batch": None
        if options.batches
        else next((item.target.batch for item, found in seen if _says_batch(item, found)), None),
    }
    alike = []
    for bench_model, found in seen:
        open_ones = {} if bench_model.checked_at else {"threads": settled["threads"]}
        open_ones |= {} if _says_batch(bench_model, found) else {"batch": settled["batch"]}
        changes = {name: value for name, value in open_ones.items() if value not in (None, getattr(bench_model.target, name))}
        if changes:
            what = " and ".join(f"{name} {value}" for name, value in changes.items())
            progress.note(f"{bench_model.name} is measured at {what}, for so is what it is compared with")
        alike.append((replace(bench_model, target=bench_model.target.model_copy(update=changes)), found))
    return alike


def _says_batch(bench_model: BenchModel, found: Probe) -> bool:
    return bench_model.checked_at is not None or found.fixed_batch is not None


def _places(options: BenchOptions) -> list[tuple[int | None, int | None]]:
    """Every pair of threads and batch."""
    threads: Sequence[int | None] = tuple(dict.fromkeys(options.threads)) or (None,)
    batches: Sequence[int | None] = tuple(dict.fromkeys(options.batches)) or (None,)
    return list(itertools.product(threads, batches))


def _target(bench_model: BenchModel, threads: int | None, batch: int | None) -> Target:
    asked = {"threads": threads or bench_model.target.threads, "batch": batch or bench_model.target.batch}
    return bench_model.target.model_copy(update=asked)


def _ask(
    bench_model: BenchModel, lengths: Lengths, setting: Setting, target: Target, options: BenchOptions, source: QuerySource
) -> Asked:
    texts = texts_per_query(setting, target)
    if (total := (options.warmup + options.queries) * texts) > MOST_TEXTS:
        raise InputError(
            f"{options.warmup + options.queries} queries of {counted(texts, 'text')} are {total:,} texts in one process, "
            f"more than {MOST_TEXTS:,}.",
            hint="Ask for fewer --queries or a smaller --batch; more samples come of more --rounds.",
        )
    return source.ask(bench_model, lengths, warmup=options.warmup * texts, timed=options.queries * texts)


def _look(bench_model: BenchModel, options: BenchOptions, source: QuerySource, progress: Progress) -> tuple[BenchModel, Probe]:
    """The bench_model with the sizes that its graph insists on, and what the first look at it found."""
    asked = [
        _ask(bench_model, lengths, setting, bench_model.target, options, source) for setting, lengths in options.settings()
    ]
    every = [length for item in asked for length in item.lengths]
    with progress.step(f"look at {bench_model.name}"):
        found = probe(bench_model, bench_model.target, usual=int(np.median(every)), longest=max(every))
    if found.fixed_length is not None:
        fixed = bench_model.target.model_copy(update={"padding": "max_length", "length_bucket": None})
        bench_model = replace(bench_model, target=fixed, max_length=found.fixed_length)
        progress.note(
            f"{bench_model.name} takes {found.fixed_length} tokens and no other number: shorter texts are padded to it"
        )
    if found.fixed_batch is not None:
        _check_batch(bench_model, found.fixed_batch, options)
        bench_model = replace(bench_model, target=bench_model.target.model_copy(update={"batch": found.fixed_batch}))
    return bench_model, found


def _check_batch(bench_model: BenchModel, batch: int, options: BenchOptions) -> None:
    if strange := [asked for asked in options.batches if asked != batch]:
        raise InputError(
            f"{bench_model.name} takes {batch} texts at once and no other number; --batch asks for {strange[0]}.",
            hint="Drop --batch, or export the model with a dynamic batch.",
        )


def _check_streams(bench_model: BenchModel, setting: Setting, found: Probe) -> None:
    if setting.scenario == "multi-stream" and found.fixed_batch is not None and setting.streams % found.fixed_batch:
        raise InputError(
            f"{bench_model.name} takes {found.fixed_batch} texts at once and no other number; "
            f"{setting.streams} streams are not a multiple of it.",
            hint=f"For example --streams {found.fixed_batch * max(round(setting.streams / found.fixed_batch), 1)}",
        )
