"""check: measures FP32, the intermediates and every candidate in one go, and makes one report of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.bundle.parts import GoldenOutputs, PlannedEntry
from edgebert.compress.recipe import Measure
from edgebert.compress.recipe_file import RecipeFile
from edgebert.core.files import sentences
from edgebert.core.packages import package_version, quiet_libraries
from edgebert.core.progress import Progress
from edgebert.core.store import Artifact, ArtifactStore, Draft, MadeBy, hash_file, hash_json
from edgebert.data.labels import right_answers
from edgebert.data.prepared import PreparedData
from edgebert.errors import StageError
from edgebert.measure.coverage.coverage import measure_coverage
from edgebert.measure.latency.job import RoundJob
from edgebert.measure.latency.latency import hash_queries, measure_rounds, query_order, write_rows
from edgebert.measure.machine.machine_state import read_state
from edgebert.measure.predictions import (
    BATCHES_AT_ONCE,
    former_predictions,
    outputs_of,
    predict_rows,
    statistics_of,
    with_agreement,
)
from edgebert.measure.text_counts import count_texts
from edgebert.models.sizes import EncoderSizes, mean_macs
from edgebert.models.weight_files import count_parameters
from edgebert.report.entry import Entry
from edgebert.report.environment import Environment, MachineState
from edgebert.report.report import Report
from edgebert.report.rounds import Coverage, Round, Setting
from edgebert.report.search_record import SearchRecord
from edgebert.report.selection import Selection
from edgebert.report.text_counts import TextCounts
from edgebert.report.vocabulary_loss import VocabularyLoss
from edgebert.runtimes import get_runtime
from edgebert.runtimes.serving import Serving
from edgebert.stages.prune.latency.layer_latency import served_lengths
from edgebert.version import __version__

VERSION = 1
STATES = "states.json"
"""File with the state of the machine before and after the rounds; older measurements have none."""


@dataclass(frozen=True)
class Check:
    """The measurements of a run. Each is kept in the store and is not repeated."""

    recipe: RecipeFile
    data: PreparedData
    store: ArtifactStore
    progress: Progress
    environment: Environment
    remeasure: bool = False
    selection: Selection | None = None
    """The rows that chose among models."""

    @property
    def settings(self) -> Measure:
        """The settings by which latency is measured."""
        return self.recipe.recipe.measure

    @property
    def seed(self) -> int:
        """Seed for the order of the queries and the choice of goldens."""
        return self.recipe.recipe.seed

    def run(self, planned_entries: Sequence[PlannedEntry]) -> tuple[Report, dict[str, GoldenOutputs]]:
        """Measures every planned entry.

        Returns:
            The report, and name of each entry -> its goldens.
        """
        answers = {planned.name: self.predict(planned) for planned in planned_entries}
        serving = planned_entries[0].serving
        right = right_answers(self.data, serving.task, serving.labels)
        rounds, states = self.time(planned_entries)
        covered = {planned.name: self.coverage(planned) for planned in planned_entries}
        encoders = {planned.name: _encoder(planned.model) for planned in planned_entries}
        entries = [
            Entry(
                name=planned.name,
                role=planned.role,
                stage=planned.stage,
                artifact=planned.artifact.sha256,
                target=planned.target,
                size_bytes=planned.artifact.size,
                statistics=statistics_of(serving.task, answers[planned.name][0], right, serving.labels),
                rounds=tuple(measured),
                setting=Setting(queries=self.queries(planned)),
                tokenizer=hash_file(planned.serving.tokenizer),
                texts=self.texts(planned.serving),
                parameters=count_parameters(planned.model.path),
                macs=self.macs(planned.serving, encoders[planned.name]),
                encoder=encoders[planned.name],
                vocabulary=self.vocabulary(planned.model),
                search=_search(planned.artifact),
                coverage=covered[planned.name],
            )
            for planned, measured in zip(planned_entries, rounds, strict=True)
        ]
        report = Report(
            edgebert_version=__version__,
            recipe=self.recipe.name,
            task=serving.task.name,
            labels=serving.labels,
            eval_data=self.data.artifact.sha256,
            right_answers=hash_json(right),
            guess=statistics_of(serving.task, serving.task.guesses(right), right, serving.labels),
            less_is_better=tuple(metric.name for metric in serving.task.own_metrics if metric.less_is_better),
            metric_sources={metric.name: metric.source for metric in serving.task.own_metrics},
            environment=self.environment.model_copy(update=states),
            gates=self.recipe.recipe.gates,
            selection=self.selection,
            entries=with_agreement(serving.task, entries, [answers[entry.name][0] for entry in entries]),
        )
        return report, {name: goldens for name, (_, goldens) in answers.items()}

    def predict(self, planned: PlannedEntry) -> tuple[list[Any], GoldenOutputs]:
        """The predictions of an entry on the eval set, and its goldens."""

        def make(draft: Draft) -> Mapping[str, Any]:
            with self.progress.step(f"predict with {planned.name}", len(self.data)) as step, quiet_libraries():
                session = get_runtime(planned.target.runtime).open_for_answers(planned.model_file, planned.target)
                blocks = self.data.blocks(planned.target.batch * BATCHES_AT_ONCE)
                predictions = predict_rows(session.predict, planned.serving, blocks, planned.target, step, name=planned.name)
                goldens = make_goldens(session, planned, self.data.columns, self.settings.golden_inputs, self.seed)
            (draft.out / "answers.json").write_text(json.dumps({"predictions": predictions, "goldens": goldens.__dict__}))
            return {}

        identity = {
            "check": "predictions",
            **_serving_identity(planned),
            "data": self.data.artifact.sha256,
            "goldens": self.settings.golden_inputs,
            "seed": self.seed,
            "runtime": package_version(get_runtime(planned.target.runtime).package),
            "machine": [self.environment.cpu, *self.environment.isa],
        }
        artifact = self._measured("predict", identity, planned.artifact.key, make)
        answers = json.loads((artifact.path / "answers.json").read_text())
        predictions = former_predictions(answers["predictions"], planned.serving.labels)
        return predictions, GoldenOutputs(**answers["goldens"])

    def goldens(self, planned: PlannedEntry) -> GoldenOutputs:
        """The goldens of an entry, measured or not."""
        return self.predict(planned)[1]

    def queries(self, planned: PlannedEntry) -> str:
        """sha256 of the rows of the timed queries, in order."""
        batch = planned.target.batch
        count, warmup = self.settings.queries * batch, self.settings.warmup * batch
        order = query_order(len(self.data), warmup + count, self.seed)
        return hash_queries(self.data.rows(order[warmup:]), planned.serving.task)

    def macs(self, serving: Serving, encoder: EncoderSizes) -> float:
        """Multiply-accumulates of the layers for one eval text, on average; a long text may have several windows."""
        lengths = self.lengths(serving)
        return mean_macs(encoder.shape, lengths) * len(lengths) / len(self.data)

    def lengths(self, serving: Serving) -> list[int]:
        """Tokens of each eval text, or of each window of a long one, by that serving's tokenizer, without padding."""

        def make(draft: Draft) -> Mapping[str, Any]:
            tokenizer = serving.open_tokenizer()
            with self.progress.step("count tokens", len(self.data)) as step:
                lengths: list[int] = []
                for rows in self.data.blocks():
                    lengths += map(len, serving.encode(tokenizer, rows))
                    step.advance(len(rows))
            (draft.out / "lengths.json").write_text(json.dumps(lengths))
            return {}

        artifact = self._kept("lengths", self._texts_identity(serving), None, make)  # counting again would give the same
        return [int(length) for length in json.loads((artifact.path / "lengths.json").read_text())]

    def texts(self, serving: Serving) -> TextCounts:
        """How well that serving's tokenizer and longest input fit the eval texts."""

        def make(draft: Draft) -> Mapping[str, Any]:
            with self.progress.step("count unknown tokens", len(self.data)) as step:
                counts = count_texts(serving, self.data.blocks(), step)
            (draft.out / "texts.json").write_text(counts.model_dump_json())
            return {}

        artifact = self._kept("texts", {**self._texts_identity(serving), "check": "texts"}, None, make)
        return TextCounts.model_validate_json((artifact.path / "texts.json").read_text())

    def _texts_identity(self, serving: Serving) -> dict[str, Any]:
        return {
            "check": "lengths",
            "data": self.data.artifact.sha256,
            "task": serving.task.key,
            "max_length": serving.max_length,
            **serving.tokenizer_key(),
        }

    def coverage(self, planned: PlannedEntry) -> Coverage | None:
        """The INT8 coverage of one query of median length; None, with a note, where it cannot be counted."""
        target = planned.target
        lengths = self.lengths(planned.serving)
        served = served_lengths(lengths, target, max_length=planned.serving.max_length, seed=self.seed)
        length = int(np.quantile(served, 0.5, method="nearest"))

        def make(draft: Draft) -> Mapping[str, Any]:
            with (
                self.progress.step(f"count what {planned.name} runs in INT8"),
                tempfile.TemporaryDirectory(dir=draft.work) as folder,
            ):
                coverage = measure_coverage(planned.model_file, target, length, Path(folder))
            (draft.out / "coverage.json").write_text(coverage.model_dump_json())
            return {}

        identity = {
            "check": "coverage",
            "artifact": planned.artifact.sha256,
            "target": target.identity(),
            "length": length,
            "machine": self.environment.fingerprint,
        }
        try:
            artifact = self._measured("coverage", identity, planned.artifact.key, make)
        except StageError as error:
            self.progress.note(f"What {planned.name} runs in INT8 is not known: {error}")
            return None
        return Coverage.model_validate_json((artifact.path / "coverage.json").read_text())

    def time(self, planned_entries: Sequence[PlannedEntry]) -> tuple[list[list[Round]], dict[str, MachineState]]:
        """The latency rounds of each entry, measured in turns, and the machine's state `before` and `after`."""

        def make(draft: Draft) -> Mapping[str, Any]:
            with tempfile.TemporaryDirectory(dir=draft.work) as folder:
                jobs = _jobs(planned_entries, self.data, self.settings, self.seed, Path(folder))
                before = read_state()
                measured = measure_rounds(jobs, self.settings.rounds, self.progress)
                states = {"before": before, "after": read_state()}
            rounds = [[item.model_dump(mode="json") for item in job] for job in measured]
            (draft.out / "rounds.json").write_text(json.dumps(rounds))
            (draft.out / STATES).write_text(json.dumps({name: state.model_dump(mode="json") for name, state in states.items()}))
            return {}

        identity = {
            "check": "latency",
            "turns": 2,  # before 2, models were measured in the same order in each round
            "contenders": [_serving_identity(planned) for planned in planned_entries],  # named so in stores of version 0.1
            "data": self.data.artifact.sha256,
            "settings": self.settings.model_dump(mode="json", exclude={"golden_inputs"}),
            "seed": self.seed,
            "machine": self.environment.fingerprint,
        }
        artifact = self._measured("latency", identity, None, make)
        loaded = json.loads((artifact.path / "rounds.json").read_text())
        states = json.loads((artifact.path / STATES).read_text()) if (artifact.path / STATES).exists() else {}
        rounds = [[Round.model_validate(item) for item in job] for job in loaded]
        return rounds, {name: MachineState.model_validate(state) for name, state in states.items()}

    def vocabulary(self, model: Artifact) -> VocabularyLoss | None:
        """What the last stage removed from the vocabulary that cut it; None where none did."""
        found = (VocabularyLoss.of(artifact.facts) for artifact in self.store.lineage(model))
        return next((loss for loss in found if loss), None)

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
    record = artifact.facts.get("search")
    return None if record is None else SearchRecord.model_validate(record)


def _key(identity: Mapping[str, Any]) -> str:
    return hash_json({**identity, "version": VERSION})


def _encoder(model: Artifact) -> EncoderSizes:
    return EncoderSizes.from_config(json.loads((model.path / "config.json").read_text()))


def _serving_identity(planned: PlannedEntry) -> dict[str, Any]:
    serving, target = planned.serving, planned.target
    return {
        "artifact": planned.artifact.sha256,
        "target": target.identity(),
        "task": serving.task.key,
        "labels": list(serving.labels),
        "max_length": serving.max_length,
        "pad_id": serving.pad_id,
        **serving.tokenizer_key(),
    }


def make_goldens(session: Any, planned: PlannedEntry, columns: Sequence[str], count: int, seed: int) -> GoldenOutputs:
    """A model's outputs for `count` sentences that ship with edgebert: a bundle must not contain the user's data."""
    serving = planned.serving
    pool = sentences()
    chosen = [pool[index] for index in query_order(len(pool), count, seed)]
    rows = serving.task.rows_from(chosen, columns)
    encoded = serving.encode(serving.open_tokenizer(), rows)
    outputs: dict[str, list[Any]] = {}
    alone = planned.target.model_copy(update={"batch": 1})
    for found in outputs_of(session.predict, serving, encoded, alone):
        for name, value in serving.task.golden_part(found).items():
            outputs.setdefault(name, []).append(value.tolist())
    return GoldenOutputs([dict(row) for row in rows], [list(item.ids) for item in encoded], outputs)


def _jobs(
    planned_entries: Sequence[PlannedEntry], data: PreparedData, settings: Measure, seed: int, folder: Path
) -> list[RoundJob]:
    """One job for each entry. All serve the same queries, and more of them where a target's batch is larger."""
    jobs = []
    for planned in planned_entries:
        batch = planned.target.batch
        file = folder / f"rows-b{batch}.json"
        if not file.exists():
            order = query_order(len(data), (settings.warmup + settings.queries) * batch, seed)
            write_rows(file, data.rows(order))
        serving = planned.serving
        jobs.append(
            RoundJob(
                round=0,
                model=str(planned.model_file),
                target=planned.target,
                task=serving.task.name,
                task_options=serving.task.options.changed(),
                labels=serving.labels,
                max_length=serving.max_length,
                pad_id=serving.pad_id,
                tokenizer=str(serving.tokenizer),
                rows=str(file),
                warmup=settings.warmup,
            )
        )
    return jobs
