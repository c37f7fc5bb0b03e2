"""The plan of a bench run: every combination of model, load, batch, threads and length, each one entry of the report."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from edgebert.core.progress import Progress
from edgebert.errors import InputError
from edgebert.measure.bench.alike import asked_like_the_bundle, run_alike
from edgebert.measure.bench.models import BenchModel
from edgebert.measure.bench.probe import probe
from edgebert.measure.bench.probe_worker import Probe
from edgebert.measure.bench.queries import Asked, Lengths, QuerySource
from edgebert.measure.latency import loadgen
from edgebert.measure.latency.job import texts_per_query
from edgebert.report.entry import SAMPLES_FOR
from edgebert.report.rounds import Scenario, Setting
from edgebert.report.text.bench_table import counted
from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target

Driver = Literal["edgebert", "mlcommons-loadgen"]
MOST_TEXTS = 1_000_000
"""Most texts for one process; more would only fill the memory."""
PROCESS_S, SETTLING = 0.5, 100
"""For the estimate of a plan's time: seconds of a process beside the probe's, and queries until latency has settled."""

LEAST = {"queries": 1, "rounds": 1, "warmup": 0, "instances": 1, "streams": 1, "seed": 0, "cool_down_s": 0}
"""Name of an option -> the least number that it may be."""


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
    """Empty: each model's own batch. The same holds for `threads`."""
    threads: tuple[int, ...] = ()
    lengths: tuple[Lengths, ...] = (Lengths("data"),)
    queries: int = 100
    rounds: int = 10
    warmup: int = 20
    settle: bool = True
    end_to_end: bool = True
    pin: tuple[int, ...] | None = None
    """Cores for every process. None: chosen for the threads of each; empty: not pinned."""
    seed: int = 0
    driver: Driver = "edgebert"
    cool_down_s: float = 120.0
    """Most seconds in all that processes wait for a hot CPU."""

    def check(self) -> None:
        """Raises InputError for options that do not go together."""
        self._check_numbers()
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

    def _check_numbers(self) -> None:
        """Raises InputError for a number that is too small."""
        given = [(name, getattr(self, name), least) for name, least in LEAST.items()]
        given += [(name, value, 1) for name in ("batches", "threads") for value in getattr(self, name)]
        for name, value, least in given:
            if value is not None and value < least:
                raise InputError(f"{name} is {value}: it has to be {least} or more.", hint="Leave it out for the default.")

    def settings(self) -> list[tuple[Setting, Lengths]]:
        """Every load with its lengths, without the queries."""
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

    model: BenchModel
    role: Literal["baseline", "candidate"]
    target: Target
    setting: Setting
    asked: Asked
    probe: Probe
    lengths: Lengths

    @property
    def checked_elsewhere(self) -> bool:
        """Whether a bundle's variant is measured at another batch than its answers were checked at."""
        return self.model.checked_at is not None and self.model.checked_at.batch != self.target.batch

    def seconds(self, options: BenchOptions) -> float:
        """Estimated seconds of one of its processes."""
        served = self.probe.query_s / self.probe.texts * texts_per_query(self.setting, self.target)
        if self.setting.rate and served:
            served = max(served, 1 / self.setting.rate)
        shapes = {self.target.padded_length(length, self.model.max_length) for length in self.asked.lengths}
        load = self.probe.open_s + self.probe.first_s * (
            len(shapes) if get_runtime(self.target.runtime).compiles_each_shape else 1
        )
        started = max(self.probe.process_s - self.probe.open_s - self.probe.first_s, 0)
        timed = options.queries * (2 if options.end_to_end and self.asked.is_text else 1)
        warmup = max(options.warmup, SETTLING) if options.settle else options.warmup
        return PROCESS_S + started + load + (warmup + timed) * served


def make_plan(
    models: Sequence[tuple[BenchModel, Literal["baseline", "candidate"]]],
    options: BenchOptions,
    source: QuerySource,
    progress: Progress,
) -> list[Planned]:
    """Probes each model once and lays out every combination, with those of one load together.

    Raises:
        InputError: options do not go together, or a model does not take such queries.
    """
    options.check()
    if options.driver == "mlcommons-loadgen":
        loadgen.require()
    compared = any(role == "baseline" for _, role in models)
    wanted = [model for model, _ in models]
    if compared:
        wanted = asked_like_the_bundle(wanted, progress, of_data=any(item.name == "data" for item in options.lengths))
    seen = [_look(model, options, source, progress) for model in wanted]
    if compared:
        seen = run_alike(seen, progress, threads=not options.threads, batch=not options.batches)
    plan = []
    for (setting, lengths), (threads, batch) in itertools.product(options.settings(), _threads_and_batches(options)):
        for (model, found), (_, role) in zip(seen, models, strict=True):
            target = _target(model, threads, batch)
            _check_streams(model, setting, found)
            asked = _ask(model, lengths, setting, target, options, source)
            setting_asked = setting.model_copy(update={"queries": asked.sha256})
            plan.append(Planned(model, role, target, setting_asked, asked, found, lengths))
    return plan


def _threads_and_batches(options: BenchOptions) -> list[tuple[int | None, int | None]]:
    """Every pair of threads and batch."""
    threads: Sequence[int | None] = tuple(dict.fromkeys(options.threads)) or (None,)
    batches: Sequence[int | None] = tuple(dict.fromkeys(options.batches)) or (None,)
    return list(itertools.product(threads, batches))


def _target(model: BenchModel, threads: int | None, batch: int | None) -> Target:
    asked = {"threads": threads or model.target.threads, "batch": batch or model.target.batch}
    return model.target.model_copy(update=asked)


def _ask(
    model: BenchModel, lengths: Lengths, setting: Setting, target: Target, options: BenchOptions, source: QuerySource
) -> Asked:
    texts = texts_per_query(setting, target)
    if (total := (options.warmup + options.queries) * texts) > MOST_TEXTS:
        raise InputError(
            f"{options.warmup + options.queries} queries of {counted(texts, 'text')} are {total:,} texts in one process, "
            f"more than {MOST_TEXTS:,}.",
            hint="Ask for fewer --queries or a smaller --batch; more samples come of more --rounds.",
        )
    return source.ask(model, lengths, warmup=options.warmup * texts, timed=options.queries * texts)


def _look(model: BenchModel, options: BenchOptions, source: QuerySource, progress: Progress) -> tuple[BenchModel, Probe]:
    """The model with the fixed sizes of its graph, and its probe."""
    asked = [_ask(model, lengths, setting, model.target, options, source) for setting, lengths in options.settings()]
    every = [length for item in asked for length in item.lengths]
    with progress.step(f"look at {model.name}"):
        found = probe(model, model.target, usual=int(np.median(every)), longest=max(every))
    if found.fixed_length is not None:
        fixed = model.target.model_copy(update={"padding": "max_length", "length_bucket": None})
        model = replace(model, target=fixed, max_length=found.fixed_length)
        progress.note(f"{model.name} takes {found.fixed_length} tokens and no other number: shorter texts are padded to it")
    if found.fixed_batch is not None:
        _check_batch(model, found.fixed_batch, options)
        model = replace(model, target=model.target.model_copy(update={"batch": found.fixed_batch}))
    return model, found


def _check_batch(model: BenchModel, batch: int, options: BenchOptions) -> None:
    if strange := [asked for asked in options.batches if asked != batch]:
        raise InputError(
            f"{model.name} takes {batch} texts at once and no other number; --batch asks for {strange[0]}.",
            hint="Drop --batch, or export the model with a dynamic batch.",
        )


def _check_streams(model: BenchModel, setting: Setting, found: Probe) -> None:
    if setting.scenario == "multi-stream" and found.fixed_batch is not None and setting.streams % found.fixed_batch:
        raise InputError(
            f"{model.name} takes {found.fixed_batch} texts at once and no other number; "
            f"{setting.streams} streams are not a multiple of it.",
            hint=f"For example --streams {found.fixed_batch * max(round(setting.streams / found.fixed_batch), 1)}",
        )
