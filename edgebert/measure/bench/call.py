"""Bench as the command line and Python call it: which models are measured, the baseline first, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from edgebert.core.files import local_path
from edgebert.core.progress import Progress, progress_for
from edgebert.errors import InputError
from edgebert.measure.bench.data_file import DataFile
from edgebert.measure.bench.models import BenchModel, ModelRequest, find_models, named_apart
from edgebert.measure.bench.queries import QuerySource, all_lengths
from edgebert.measure.bench.run import BenchRun, run
from edgebert.measure.bench.sweep import BenchOptions, Driver, make_plan
from edgebert.report.report import Report
from edgebert.report.rounds import Scenario
from edgebert.runtimes import RUNTIMES

Role = Literal["baseline", "candidate"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)


@dataclass(frozen=True)
class Asked:
    """The models of one run as the user names them."""

    models: tuple[str, ...]
    baseline: str | None = None
    variants: tuple[str, ...] = ()
    baseline_variant: str | None = None
    runtime: str | None = None
    tokenizer: Path | None = None


def bench(
    *models: str | Path,
    baseline: str | Path | None = None,
    variants: Sequence[str] = (),
    baseline_variant: str | None = None,
    runtime: str | None = None,
    scenarios: Sequence[Scenario] = ("single-stream",),
    streams: int | None = None,
    instances: int = 1,
    rates: Sequence[float] = (),
    bound_ms: float | None = None,
    bound_percent: int = 99,
    batches: Sequence[int] = (),
    threads: Sequence[int] = (),
    lengths: Sequence[int | str] = ("data",),
    data: str | Path | None = None,
    label: str | None = None,
    tokenizer: str | Path | None = None,
    queries: int = 100,
    rounds: int = 10,
    warmup: int = 20,
    settle: bool = True,
    end_to_end: bool = True,
    pin: Sequence[int] | None = None,
    seed: int = 0,
    driver: Driver = "edgebert",
    cool_down_s: float = 120.0,
    quiet: bool = True,
) -> Report:
    """Measures models in alternating fresh processes: `edgebert.bench("bundle", baseline="model.onnx")`.

    Args:
        models: bundles or folders of runs, .onnx files, .xml files of OpenVINO IRs, or Transformers folders.
        baseline: one more, measured in turns with the others, which are compared with it.
        variants: names of variants of a bundle; by default the selected one.
        baseline_variant: the same for the baseline, or for the first model where there is no baseline.
        runtime: for models that more than one runtime can run.
        scenarios: `single-stream`, `multi-stream`, `offline`, `server`.
        streams: multi-stream: texts in one query; by default 8.
        instances: sessions in one process, each with its own threads.
        rates: server: queries that arrive in a second.
        bound_ms: server: the latency in milliseconds that must hold at `bound_percent`.
        batches: texts in one query; empty: each model's own. The same holds for `threads`.
        lengths: `data` (texts as they are), numbers of tokens, or `log:FILE`.
        data: file of texts, with `:COLUMN` where a column is meant; by default sentences that ship.
        label: column of the right answers in `data`, to score the models as well.
        tokenizer: tokenizer.json of graphs that have none beside them.
        queries: timed queries in each process.
        rounds: fresh processes for each combination.
        warmup: queries before the clock starts, repeated until latency has settled with `settle`.
        end_to_end: whether the queries are served once more from their text.
        pin: cores that each process keeps to; None: chosen for its threads; empty: any.
        seed: seed of the order of queries and of arrivals.
        cool_down_s: seconds to wait for a hot CPU, at most and in all.
        quiet: whether progress stays off standard error.

    Raises:
        EdgebertError: a model, the data or an option cannot be used, or a process failed.
    """
    options = BenchOptions(
        scenarios=tuple(map(scenario_named, scenarios)),
        streams=streams,
        instances=instances,
        rates=tuple(rates),
        bound_ms=bound_ms,
        bound_percent=bound_percent,
        batches=tuple(batches),
        threads=tuple(threads),
        lengths=all_lengths([str(length) for length in lengths]),
        queries=queries,
        rounds=rounds,
        warmup=warmup,
        settle=settle,
        end_to_end=end_to_end,
        pin=None if pin is None else tuple(pin),
        seed=seed,
        driver=driver,
        cool_down_s=cool_down_s,
    )
    asked = Asked(
        models=tuple(map(str, models)),
        baseline=None if baseline is None else str(baseline),
        variants=tuple(variants),
        baseline_variant=baseline_variant,
        runtime=runtime,
        tokenizer=None if tokenizer is None else Path(tokenizer),
    )
    outcome = measure(asked, options, data=data, label=label, progress=progress_for(quiet=quiet))
    if outcome.fault:
        raise outcome.fault
    return outcome.report


def measure(asked: Asked, options: BenchOptions, *, data: str | Path | None, label: str | None, progress: Progress) -> BenchRun:
    """Measures the models that were asked for.

    Args:
        data: file of texts, with `:COLUMN` where a column is meant; None: those that ship.
        label: column of the right answers in it.

    Raises:
        EdgebertError: a model, the data or an option cannot be used, or a process failed in the first round.
    """
    options.check()
    if label and not data:
        raise InputError("--label names a column of --data, which is not given.", hint="--data FILE --label COLUMN")
    source = QuerySource(DataFile.parse(str(data), label) if data else None, options.seed)
    return run(make_plan(models_of(asked, progress), options, source, progress), options, source, progress)


def models_of(asked: Asked, progress: Progress) -> list[tuple[BenchModel, Role]]:
    """The models with their roles, the baseline first.

    Raises:
        InputError: there is no model, or a variant, runtime or tokenizer that is named is none.
        EdgebertError: a model cannot be used.
    """
    if not asked.models:
        raise InputError("There is no model to measure.", hint="Name a bundle, an .onnx file or a Transformers folder.")
    wanted = ModelRequest(asked.variants, _runtime(asked.runtime), _tokenizer(asked.tokenizer))
    first = asked.baseline or asked.models[0]
    theirs: list[BenchModel] = []
    if asked.baseline or asked.baseline_variant:
        variants = (asked.baseline_variant,) if asked.baseline_variant else ()
        theirs = find_models(first, replace(wanted, variants=variants, must=False), progress)
    ours = [model for path in asked.models for model in find_models(path, wanted, progress)]
    if wanted.variants and not any(model.checked_at for model in ours):
        raise InputError("--variant names a part of a bundle, and there is none.", hint="Drop it.")
    if asked.baseline_variant and not theirs[0].checked_at:
        raise InputError(f"--baseline-variant names a part of a bundle, and {first} is none.", hint="Drop it.")
    named = named_apart([*theirs, *ours])
    for model in named:
        if wanted.tokenizer and model.tokenizer != wanted.tokenizer:
            progress.note(f"{model.name} has its own tokenizer: --tokenizer is not used for it")
    return [(model, "baseline" if index < len(theirs) else "candidate") for index, model in enumerate(named)]


def scenario_named(name: str) -> Scenario:
    """The scenario of that name. Raises InputError where there is none."""
    known = next((item for item in SCENARIOS if item == name), None)
    if known is None:
        raise InputError(f"There is no scenario {name}.", hint=f"There are {', '.join(SCENARIOS)}.")
    return known


def _runtime(name: str | None) -> str | None:
    names = [runtime.name for runtime in RUNTIMES]
    if name is not None and name not in names:
        raise InputError(f"--runtime {name!r} is no runtime.", hint=f"Take one of {', '.join(names)}.")
    return name


def _tokenizer(path: Path | None) -> Path | None:
    if path is None:
        return None
    file = local_path(str(path), Path.cwd())
    file = file / "tokenizer.json" if file.is_dir() else file
    if not file.is_file():
        raise InputError(f"There is no tokenizer {path}.", hint="Name a tokenizer.json, or a folder that has one.")
    return file
