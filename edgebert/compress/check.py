"""check: FP32, the steps on the way and every candidate, predicted and timed in one go, into one report."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.bundle.parts import Contender, Goldens
from edgebert.compress.recipe import Measure
from edgebert.compress.recipe_file import RecipeFile
from edgebert.core.packages import package_version
from edgebert.core.progress import Progress
from edgebert.core.quiet import quiet_libraries
from edgebert.core.shipped import sentences
from edgebert.core.store import Artifact, ArtifactStore, Draft, MadeBy, hash_file, hash_json
from edgebert.data.prepared import PreparedData, label_indices
from edgebert.errors import StageError
from edgebert.measure.accuracy import predict_all
from edgebert.measure.coverage.coverage import measure_coverage
from edgebert.measure.latency.latency import Job, hash_queries, measure_rounds, query_order, write_rows
from edgebert.measure.machine.machine_state import read_state
from edgebert.models.folder import count_parameters
from edgebert.models.kept import EncoderSizes
from edgebert.models.shape import mean_macs
from edgebert.report.environment import Environment, MachineState
from edgebert.report.report import Entry, Report
from edgebert.report.rounds import Coverage, Round, Setting
from edgebert.report.search_record import SearchRecord
from edgebert.runtimes import get_runtime
from edgebert.runtimes.serving import Serving
from edgebert.stages.prune.latency.layer_latency import served_lengths
from edgebert.version import __version__

VERSION = 1
STATES = "states.json"
"""Of the machine, before and after its rounds; older measurements have none."""


@dataclass(frozen=True)
class Check:
    """What all measurements of a run share. Each is kept in the store and found again."""

    recipe: RecipeFile
    data: PreparedData
    store: ArtifactStore
    progress: Progress
    environment: Environment
    remeasure: bool = False

    @property
    def settings(self) -> Measure:
        """How latency is measured."""
        return self.recipe.recipe.measure

    @property
    def seed(self) -> int:
        """Orders the queries and chooses the goldens."""
        return self.recipe.recipe.seed

    def run(self, contenders: Sequence[Contender]) -> tuple[Report, dict[str, Goldens]]:
        """Measures every contender.

        Returns:
            The report, and for each contender's name its goldens.
        """
        answers = {contender.name: self.predict(contender) for contender in contenders}
        rounds, states = self.time(contenders)
        covered = {contender.name: self.coverage(contender) for contender in contenders}
        encoders = {contender.name: _encoder(contender.model) for contender in contenders}
        entries = [
            Entry(
                name=contender.name,
                role=contender.role,
                stage=contender.stage,
                artifact=contender.artifact.sha256,
                target=contender.target,
                size_bytes=contender.artifact.size,
                predictions=tuple(answers[contender.name][0]),
                rounds=tuple(measured),
                setting=Setting(queries=self.queries(contender)),
                tokenizer=hash_file(contender.serving.tokenizer),
                parameters=count_parameters(contender.model.path),
                macs=mean_macs(encoders[contender.name].shape, self.lengths(contender.serving)),
                encoder=encoders[contender.name],
                search=_search(contender.artifact),
                coverage=covered[contender.name],
            )
            for contender, measured in zip(contenders, rounds, strict=True)
        ]
        serving = contenders[0].serving
        report = Report(
            edgebert_version=__version__,
            recipe=self.recipe.name,
            task=serving.task.name,
            labels=serving.labels,
            eval_data=self.data.artifact.sha256,
            references=tuple(label_indices(self.data, serving.task, serving.labels)),
            environment=self.environment.model_copy(update=states),
            gates=self.recipe.recipe.gates,
            entries=tuple(entries),
        )
        return report, {name: goldens for name, (_, goldens) in answers.items()}

    def predict(self, contender: Contender) -> tuple[list[int], Goldens]:
        """The contender's predictions on the eval set, and its goldens."""

        def make(draft: Draft) -> Mapping[str, Any]:
            with self.progress.step(f"predict with {contender.name}", len(self.data)) as step, quiet_libraries():
                session = get_runtime(contender.target.runtime).open(contender.model_file, contender.target)
                predictions = predict_all(session, contender.serving, self.data, contender.target, step)
                goldens = make_goldens(session, contender, self.data.columns, self.settings.goldens, self.seed)
            (draft.out / "answers.json").write_text(json.dumps({"predictions": predictions, "goldens": goldens.__dict__}))
            return {}

        identity = {
            "check": "predictions",
            **_serving_identity(contender),
            "data": self.data.artifact.sha256,
            "goldens": self.settings.goldens,
            "seed": self.seed,
            "runtime": package_version(get_runtime(contender.target.runtime).package),
            "machine": [self.environment.cpu, *self.environment.isa],
        }
        artifact = self._measured("predict", identity, contender.artifact.key, make)
        answers = json.loads((artifact.path / "answers.json").read_text())
        return answers["predictions"], Goldens(**answers["goldens"])

    def queries(self, contender: Contender) -> str:
        """sha256 of what the timed queries ask."""
        batch = contender.target.batch
        count, warmup = self.settings.queries * batch, self.settings.warmup * batch
        order = query_order(len(self.data), warmup + count, self.seed)
        return hash_queries(self.data.rows(order[warmup:]), contender.serving.task)

    def lengths(self, serving: Serving) -> list[int]:
        """Tokens of each eval text, as that tokenizer makes them, without padding."""

        def make(draft: Draft) -> Mapping[str, Any]:
            tokenizer = serving.open_tokenizer()
            with self.progress.step("count tokens", len(self.data)) as step:
                lengths: list[int] = []
                for rows in self.data.blocks():
                    lengths += map(len, serving.encode(tokenizer, rows))
                    step.advance(len(rows))
            (draft.out / "lengths.json").write_text(json.dumps(lengths))
            return {}

        identity = {
            "check": "lengths",
            "data": self.data.artifact.sha256,
            "task": serving.task.name,
            "max_length": serving.max_length,
            "tokenizer": hash_file(serving.tokenizer),
        }
        artifact = self._kept("lengths", identity, None, make)  # counting again would give the same
        return [int(length) for length in json.loads((artifact.path / "lengths.json").read_text())]

    def coverage(self, contender: Contender) -> Coverage | None:
        """What one query of the middle length runs in INT8; None, and a note, where that cannot be read."""
        target = contender.target
        lengths = self.lengths(contender.serving)
        served = served_lengths(lengths, target, max_length=contender.serving.max_length, seed=self.seed)
        length = int(np.quantile(served, 0.5, method="nearest"))

        def make(draft: Draft) -> Mapping[str, Any]:
            with (
                self.progress.step(f"count what {contender.name} runs in INT8"),
                tempfile.TemporaryDirectory(dir=draft.work) as folder,
            ):
                found = measure_coverage(contender.model_file, target, length, Path(folder))
            (draft.out / "coverage.json").write_text(found.model_dump_json())
            return {}

        identity = {
            "check": "coverage",
            "artifact": contender.artifact.sha256,
            "target": target.identity(),
            "length": length,
            "machine": self.environment.fingerprint,
        }
        try:
            artifact = self._measured("coverage", identity, contender.artifact.key, make)
        except StageError as error:
            self.progress.note(f"What {contender.name} runs in INT8 is not known: {error}")
            return None
        return Coverage.model_validate_json((artifact.path / "coverage.json").read_text())

    def time(self, contenders: Sequence[Contender]) -> tuple[list[list[Round]], dict[str, MachineState]]:
        """The latency rounds of each contender, all measured in one go, and the machine's state `before` and `after`."""

        def make(draft: Draft) -> Mapping[str, Any]:
            with tempfile.TemporaryDirectory(dir=draft.work) as folder:
                jobs = _jobs(contenders, self.data, self.settings, self.seed, Path(folder))
                before = read_state()
                measured = measure_rounds(jobs, self.settings.rounds, self.progress)
                states = {"before": before, "after": read_state()}
            rounds = [[item.model_dump(mode="json") for item in job] for job in measured]
            (draft.out / "rounds.json").write_text(json.dumps(rounds))
            (draft.out / STATES).write_text(json.dumps({name: state.model_dump(mode="json") for name, state in states.items()}))
            return {}

        identity = {
            "check": "latency",
            "turns": 2,  # two models used to be measured in the same order each time
            "contenders": [_serving_identity(contender) for contender in contenders],
            "data": self.data.artifact.sha256,
            "settings": self.settings.model_dump(mode="json", exclude={"goldens"}),
            "seed": self.seed,
            "machine": self.environment.fingerprint,
        }
        artifact = self._measured("latency", identity, None, make)
        loaded = json.loads((artifact.path / "rounds.json").read_text())
        states = json.loads((artifact.path / STATES).read_text()) if (artifact.path / STATES).exists() else {}
        rounds = [[Round.model_validate(item) for item in job] for job in loaded]
        return rounds, {name: MachineState.model_validate(state) for name, state in states.items()}

    def _measured(
        self, name: str, identity: Mapping[str, Any], parent: str | None, make: Callable[[Draft], Mapping[str, Any]]
    ) -> Artifact:
        if self.remeasure and (old := self.store.get(_key(identity))):
            self.store.remove(old)
        return self._kept(name, identity, parent, make)

    def _kept(
        self, name: str, identity: Mapping[str, Any], parent: str | None, make: Callable[[Draft], Mapping[str, Any]]
    ) -> Artifact:
        made_by = MadeBy(name=name, version=VERSION, parameters={}, packages={})
        return self.store.get_or_make(_key(identity), format="measurement", parent=parent, made_by=made_by, make=make)


def _search(artifact: Artifact) -> SearchRecord | None:
    found = artifact.facts.get("search")
    return None if found is None else SearchRecord.model_validate(found)


def _key(identity: Mapping[str, Any]) -> str:
    return hash_json({**identity, "version": VERSION})


def _encoder(model: Artifact) -> EncoderSizes:
    return EncoderSizes.from_config(json.loads((model.path / "config.json").read_text()))


def _serving_identity(contender: Contender) -> dict[str, Any]:
    serving, target = contender.serving, contender.target
    return {
        "artifact": contender.artifact.sha256,
        "target": target.identity(),
        "task": serving.task.name,
        "labels": list(serving.labels),
        "max_length": serving.max_length,
        "pad_id": serving.pad_id,
        "tokenizer": hash_file(serving.tokenizer),
    }


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


def _jobs(contenders: Sequence[Contender], data: PreparedData, settings: Measure, seed: int, folder: Path) -> list[Job]:
    """One job for each contender. All serve the same queries; those of a target differ only by its batch."""
    jobs = []
    for contender in contenders:
        batch = contender.target.batch
        file = folder / f"rows-b{batch}.json"
        if not file.exists():
            order = query_order(len(data), (settings.warmup + settings.queries) * batch, seed)
            write_rows(file, data.rows(order))
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
