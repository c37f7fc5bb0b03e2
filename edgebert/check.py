"""check: FP32 and every candidate, predicted and timed in one go, into one report."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgebert.artifact import Artifact, ArtifactStore, Draft, MadeBy, hash_file, hash_json
from edgebert.data import PreparedData
from edgebert.measure.accuracy import predict_all
from edgebert.measure.environment import Environment
from edgebert.measure.latency import Job, Round, measure_rounds, query_order, write_rows
from edgebert.progress import Progress
from edgebert.quiet import quiet_libraries
from edgebert.recipe import Measure
from edgebert.recipe_file import RecipeFile
from edgebert.report import Entry, Report
from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target
from edgebert.serving import Serving
from edgebert.shipped import sentences
from edgebert.stages.base import package_version

VERSION = 1


@dataclass(frozen=True)
class Contender:
    """One model on one target, about to be checked."""

    name: str
    role: str
    stage: str
    artifact: Artifact
    target: Target
    serving: Serving

    @property
    def model_file(self) -> Path:
        """The file that its runtime opens."""
        return self.artifact.path / get_runtime(self.target.runtime).model_file


@dataclass(frozen=True)
class Goldens:
    """Inputs and what one model answers to them, each alone in its batch."""

    rows: list[dict[str, str]]
    token_ids: list[list[int]]
    outputs: dict[str, list[Any]]


def check(
    contenders: Sequence[Contender],
    *,
    recipe: RecipeFile,
    data: PreparedData,
    store: ArtifactStore,
    progress: Progress,
    environment: Environment,
    remeasure: bool = False,
) -> tuple[Report, dict[str, Goldens]]:
    """Measures every contender.

    Returns:
        The report, and for each contender's name its goldens.
    """
    settings = recipe.recipe.measure
    rows = data.rows()
    task, labels = contenders[0].serving.task, contenders[0].serving.labels
    answers = {
        contender.name: _predict(contender, rows, data, settings, recipe.recipe.seed, store, progress, environment, remeasure)
        for contender in contenders
    }
    rounds = _time(contenders, rows, data, settings, recipe.recipe.seed, store, progress, environment, remeasure)
    entries = [
        Entry(
            name=contender.name,
            role=_role(contender),
            stage=contender.stage,
            artifact=contender.artifact.sha256,
            target=contender.target,
            size_bytes=contender.artifact.size,
            predictions=tuple(answers[contender.name][0]),
            rounds=tuple(measured),
        )
        for contender, measured in zip(contenders, rounds, strict=True)
    ]
    references = [task.label_index(row["label"], labels) for row in rows]
    report = Report(
        recipe=recipe.name,
        task=task.name,
        labels=labels,
        eval_data=data.artifact.sha256,
        references=tuple(index for index in references if index is not None),
        environment=environment,
        gates=recipe.recipe.gates,
        entries=tuple(entries),
    )
    return report, {name: goldens for name, (_, goldens) in answers.items()}


def _role(contender: Contender) -> Literal["baseline", "candidate"]:
    return "baseline" if contender.role == "baseline" else "candidate"


def _serving_identity(contender: Contender) -> dict[str, Any]:
    serving, target = contender.serving, contender.target
    return {
        "artifact": contender.artifact.sha256,
        "target": target.model_dump(mode="json"),
        "task": serving.task.name,
        "labels": list(serving.labels),
        "max_length": serving.max_length,
        "pad_id": serving.pad_id,
        "tokenizer": hash_file(serving.tokenizer),
    }


def _predict(
    contender: Contender,
    rows: Sequence[Mapping[str, Any]],
    data: PreparedData,
    settings: Measure,
    seed: int,
    store: ArtifactStore,
    progress: Progress,
    environment: Environment,
    remeasure: bool,
) -> tuple[list[int], Goldens]:
    def make(draft: Draft) -> Mapping[str, Any]:
        serving, target = contender.serving, contender.target
        with progress.step(f"predict with {contender.name}", len(rows)) as step, quiet_libraries():
            tokenizer = serving.open_tokenizer()
            session = get_runtime(target.runtime).open(contender.model_file, target)
            predictions = predict_all(session, serving, serving.encode(tokenizer, rows), target, step)
            goldens = make_goldens(session, contender, sorted(rows[0]), settings.goldens, seed)
        (draft.out / "answers.json").write_text(json.dumps({"predictions": predictions, "goldens": goldens.__dict__}))
        return {}

    identity = {
        "check": "predictions",
        "version": VERSION,
        **_serving_identity(contender),
        "data": data.artifact.sha256,
        "goldens": settings.goldens,
        "seed": seed,
        "runtime": package_version(get_runtime(contender.target.runtime).package),
        "machine": [environment.cpu, *environment.isa],
    }
    artifact = _measured("predict", identity, contender.artifact.key, store, make, remeasure)
    answers = json.loads((artifact.path / "answers.json").read_text())
    return answers["predictions"], Goldens(**answers["goldens"])


def make_goldens(session: Any, contender: Contender, columns: Sequence[str], count: int, seed: int) -> Goldens:
    """A model's outputs for sentences that ship with edgebert: a bundle must not carry the user's own data."""
    serving = contender.serving
    pool = sentences()
    chosen = [pool[index] for index in query_order(len(pool), count, seed)]
    rows = serving.task.rows_from(chosen, columns)
    encoded = serving.encode(serving.open_tokenizer(), rows)
    outputs: dict[str, list[Any]] = {}
    for item in encoded:
        for name, value in session.predict(serving.batch([item], contender.target)).items():
            outputs.setdefault(name, []).append(value[0].tolist())
    return Goldens([dict(row) for row in rows], [list(item.ids) for item in encoded], outputs)


def _time(
    contenders: Sequence[Contender],
    rows: Sequence[dict[str, Any]],
    data: PreparedData,
    settings: Measure,
    seed: int,
    store: ArtifactStore,
    progress: Progress,
    environment: Environment,
    remeasure: bool,
) -> list[list[Round]]:
    def make(draft: Draft) -> Mapping[str, Any]:
        with tempfile.TemporaryDirectory(dir=draft.out.parent) as folder:
            jobs = _jobs(contenders, rows, settings, seed, Path(folder))
            measured = measure_rounds(jobs, settings.rounds, progress)
        rounds = [[item.model_dump(mode="json") for item in job] for job in measured]
        (draft.out / "rounds.json").write_text(json.dumps(rounds))
        return {}

    identity = {
        "check": "latency",
        "version": VERSION,
        "contenders": [_serving_identity(contender) for contender in contenders],
        "data": data.artifact.sha256,
        "settings": settings.model_dump(mode="json", exclude={"goldens"}),
        "seed": seed,
        "machine": environment.fingerprint,
    }
    artifact = _measured("latency", identity, None, store, make, remeasure)
    loaded = json.loads((artifact.path / "rounds.json").read_text())
    return [[Round.model_validate(item) for item in job] for job in loaded]


def _jobs(
    contenders: Sequence[Contender], rows: Sequence[dict[str, Any]], settings: Measure, seed: int, folder: Path
) -> list[Job]:
    """One job for each contender. All serve the same queries; those of a target differ only by its batch."""
    jobs = []
    for contender in contenders:
        batch = contender.target.batch
        file = folder / f"rows-b{batch}.json"
        if not file.exists():
            order = query_order(len(rows), (settings.warmup + settings.queries) * batch, seed)
            write_rows(file, [rows[index] for index in order])
        serving = contender.serving
        jobs.append(
            Job(
                round=0,
                model=str(contender.model_file),
                target=contender.target,
                task=serving.task.name,
                labels=serving.labels,
                max_length=serving.max_length,
                pad_id=serving.pad_id,
                tokenizer=str(serving.tokenizer),
                rows=str(file),
                warmup=settings.warmup,
            )
        )
    return jobs


def _measured(
    name: str, identity: Mapping[str, Any], parent: str | None, store: ArtifactStore, make: Any, remeasure: bool
) -> Artifact:
    key = hash_json(identity)
    if remeasure and (old := store.get(key)):
        store.remove(old)
    made_by = MadeBy(name=name, version=VERSION, parameters={}, packages={})
    return store.get_or_make(key, format="measurement", parent=parent, made_by=made_by, make=make)
