"""Compression: makes the artifacts of one run, step by step, and describes its models as planned entries.

Steps are found in the store by their keys and not run again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebert.bundle.parts import PlannedEntry
from edgebert.compress.labels import SAME_LABELS, label_fault, renamed
from edgebert.compress.layout import BASE, PlannedStep, numbered
from edgebert.compress.readable_rows import check_readable
from edgebert.compress.resolve import ResolvedRecipe, calibration_samples, resolve_labels
from edgebert.compress.selection import Choice, choice_of, selection_of, with_select
from edgebert.compress.step_keys import step_key
from edgebert.core.progress import Progress
from edgebert.core.store import Artifact, ArtifactStore, Draft, MadeBy, hash_json
from edgebert.data.drift import EVAL_ROWS, Texts, drift
from edgebert.data.labels import label_notes, require_one_reading
from edgebert.data.prepared import PreparedData, prepare_data
from edgebert.data.second_texts import unread_second_text
from edgebert.errors import DataError, EdgebertError, SourceError, StageError
from edgebert.measure.machine.environment import read_environment
from edgebert.measure.text_counts import count_texts
from edgebert.models.import_model import import_model
from edgebert.report.entry import Role
from edgebert.report.selection import Selection
from edgebert.runtimes import get_runtime
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.stages.base import RunContext
from edgebert.stages.examples import ROLES, Examples
from edgebert.stages.quantize.trials import MeasuredTrials, Reference
from edgebert.tasks.base import Encoded, Task

if TYPE_CHECKING:
    from edgebert.models.sizes import Shape
    from edgebert.stages.prune.latency.latency_table import LatencyCosts


FULL_BYTES = 1 << 20
"""A disk with less free space counts as full: the most likely reason why a library failed there."""
BUSY = 0.15
"""Spread of rounds beyond which a table of layer latencies was measured on a busy machine."""


@dataclass
class Compression:
    """One run. Its models, data and labels are loaded when they are first needed."""

    inputs: ResolvedRecipe
    store: ArtifactStore
    progress: Progress
    made: dict[int, Artifact] = field(default_factory=dict)
    """Index of a step -> its artifact."""
    reused: set[int] = field(default_factory=set)
    """Indices of the steps that were found in the store."""
    remeasure: bool = False
    """Whether to measure layer latencies again, and to repeat the steps that depend on a measurement."""
    tuned_task: Task | None = None
    """The task with the options that were tuned in the run; None before, and where nothing is tuned."""
    compared: bool = False
    """Whether calibration texts have been compared with the eval set's."""

    @cached_property
    def base(self) -> Artifact:
        """The recipe's model, copied into the store, with a tokenizer.json."""
        return import_model(self.inputs.model, self.store, self.progress)

    @cached_property
    def models(self) -> dict[str, Artifact]:
        """The other models that stages name, copied into the store."""
        return {name: import_model(model, self.store, self.progress) for name, model in self.inputs.models.items()}

    @cached_property
    def data(self) -> dict[str, PreparedData]:
        """Every data set that is needed; rows that choose among models are not in `train`."""
        if self.choice is None:
            return self.given_data
        return with_select(self.given_data, self.choice, self.inputs, self.store)

    @cached_property
    def choice(self) -> Choice | None:
        """Which rows choose among models; None where nothing is chosen by scores."""
        return choice_of(self.inputs, len(self.given_data["train"]) if "train" in self.given_data else 0)

    @cached_property
    def selection(self) -> Selection | None:
        """What the report says of the rows that chose."""
        return selection_of(self.data, self.choice)

    @cached_property
    def given_data(self) -> dict[str, PreparedData]:
        """Every data set that is needed as the recipe gives it, read and checked."""
        prepared = {
            role: prepare_data(
                spec,
                role,
                base=self.inputs.file.base,
                task=self.inputs.task,
                store=self.store,
                progress=self.progress,
                seed=self.inputs.file.recipe.seed,
            )
            for role, spec in self.inputs.specs.items()
        }
        if "train" in prepared and prepared["train"].artifact.sha256 == prepared["eval"].artifact.sha256:
            raise DataError(
                "data.train and data.eval hold the same rows.", hint="A model is judged on rows that it was not trained on."
            )
        return prepared

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the model's outputs. The labels of every data set are checked against them."""
        labels = resolve_labels(self.inputs, self.given_data.get("train"))
        try:
            self.inputs.task.check_model_labels(labels)
        except ValueError as error:
            hint = "Write the tags by name, or name them in the recipe: task.labels: [...]"
            raise DataError(f"{error}.", hint=hint) from None
        if not self.inputs.task.has_labels:
            return labels
        require_one_reading(self.given_data.values(), self.inputs.task, labels)
        starts = {name for step in self.inputs.layout.steps for name in step.stage.starts()}
        for name, model in self.inputs.models.items():  # where finetune makes the head, only the data names the labels
            if name not in starts and (fault := label_fault(name, model, labels)):
                raise SourceError(fault, hint=SAME_LABELS)
        return labels

    def _note_labels(self) -> None:
        """Says which outputs have other names, which labels were read as numbers, and which have no rows."""
        named = not self.inputs.finetunes and self.inputs.task.has_labels
        line = None if not named else renamed(self.labels, self.inputs.model.labels)
        notes = [note for data in self.given_data.values() for note in label_notes(data, self.inputs.task, self.labels)]
        for note in [line, *notes] if line else notes:
            self.progress.note(note)

    def _note_second_texts(self) -> None:
        """Says which files have a column of second texts that nobody reads."""
        for role, spec in self.inputs.specs.items():
            if line := unread_second_text(spec, role, base=self.inputs.file.base, task=self.inputs.task):
                self.progress.note(line)

    def _note_texts(self) -> None:
        """Says, before the first minute of work, how many eval texts are cut and how many of their tokens are unknown."""
        data = self.data["eval"]
        rows = data.sample(min(EVAL_ROWS, len(data)), self.inputs.file.recipe.seed)
        for line in count_texts(self.serving(self.base), [rows]).concerns(self.inputs.max_length):
            self.progress.note(line)

    def _note_long_rows(self) -> None:
        """Says which data sets have rows of more words than an input has tokens."""
        most = self.inputs.max_length
        for data in self.data.values():
            if data.longest_row > most:
                self.progress.note(
                    f"data.{data.role}: the longest row has {data.longest_row} words, and an input {most} tokens "
                    "(task.max_length): longer rows are read in windows that overlap"
                )

    def run_stages(self) -> None:
        """Makes the artifact of every step."""
        self.require_packages()
        # Report faults in the input before the first minute of work; those of the data before torch is loaded.
        _ = self.data, self.base, self.models, self.labels
        check_readable(self.data.values(), self.serving(self.base), self.inputs.model.config)
        self._note_labels()
        self._note_second_texts()
        self._note_long_rows()
        self._note_texts()
        if line := self.inputs.task.serving_note():
            self.progress.note(line)
        if self.selection:
            self.progress.note(self.selection.sentence)
        for index in range(len(self.inputs.layout.steps)):
            self._make(index)

    def _make(self, index: int) -> Artifact:
        """The artifact of a step. Its source is made first."""
        if index == BASE:
            return self.base
        if index not in self.made:
            step = self.inputs.layout.steps[index]
            self._make(step.source)
            self.made[index] = self._run(index, step)
        return self.made[index]

    def require_packages(self) -> None:
        """Checks that the packages of steps and targets are installed, except for stages that the store may have.

        Raises:
            MissingPackage: one is not.
        """
        for step in self.inputs.layout.steps:
            if step.stage.keyed_by_packages:
                step.stage.require_packages()
        for target in self.inputs.file.recipe.targets:
            if target.name in self.inputs.layout.baselines:
                get_runtime(target.runtime).require()

    def artifact(self, index: int) -> Artifact:
        """The artifact of a step, or of the recipe's model."""
        return self.base if index == BASE else self.made[index]

    def key_of(self, step: PlannedStep) -> str:
        """The key of a step whose source has been made."""
        teacher = self.artifact(self.inputs.layout.teacher) if "teacher" in step.stage.needed() else None
        models = {name: self.models[name] for name in step.stage.models()}
        source = self.artifact(step.source)
        return step_key(step, source, self.inputs, self.labels, teacher, models, choice=self.choice)

    def _run(self, index: int, step: PlannedStep) -> Artifact:
        stage, source, key = step.stage, self.artifact(step.source), self.key_of(step)
        measured = bool({"target", "machine"} & stage.needed())
        if self.remeasure and measured and (old := self.store.get(key)):
            self.store.remove(old)
        if found := self.store.get(key):
            self.reused.add(index)
            self.progress.note(f"{stage.label}: found in the store")
            return found
        stage.require_packages()

        def make(draft: Draft) -> Mapping[str, Any]:
            if self.remeasure and measured:
                shutil.rmtree(draft.work)  # of a run that was killed: it depends on the old measurements
                draft.work.mkdir()
            context = self._context(step, draft)
            try:
                return stage.run(source, context)
            except OSError:
                raise
            except Exception as error:
                explained = self._explained(error, step, draft)
                if explained is error:
                    raise
                raise explained from error

        made_by = MadeBy(
            name=stage.stage_name(), version=stage.version, parameters=stage.parameters(), packages=stage.package_versions()
        )
        return self.store.get_or_make(key, format=stage.output_format(), parent=source.key, made_by=made_by, make=make)

    def _explained(self, error: Exception, step: PlannedStep, draft: Draft) -> Exception:
        """The error of a stage with a message for the user."""
        if shutil.disk_usage(draft.out).free < FULL_BYTES:  # libraries report it in various ways, or leave a damaged file
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if isinstance(error, SourceError) and step.source == BASE:  # the message names the store's copy, unknown to the user
            message = error.message.replace(str(self.base.path), str(self.inputs.model.path))
            return SourceError(message, hint=error.hint)
        if isinstance(error, EdgebertError):
            return error
        first = (str(error).strip().splitlines() or [""])[0]
        return StageError(  # for an error of a library, the user needs the stage and a way to see more
            f"The stage {step.stage.label} failed: {error.__class__.__name__}: {first}",
            hint="EDGEBERT_DEBUG=1 shows the libraries' own output and the traceback.",
        )

    def _context(self, step: PlannedStep, draft: Draft) -> RunContext:
        needed = step.stage.needed()
        return RunContext(
            out=draft.out,
            work=draft.work,
            task=self.inputs.task,
            labels=self.labels,
            max_length=self.inputs.max_length,
            data=self.data,
            serving=self.serving,
            calibration=self.calibration(step) if "calibration" in needed else (),
            teacher=self.artifact(self.inputs.layout.teacher) if "teacher" in needed else None,
            models={name: self.models[name] for name in step.stage.models()},
            examples=self.examples,
            lineage=self.store.lineage,
            cached=self._cached,
            trials=self._trials,
            layer_costs=lambda shape, lengths: self._layer_costs(shape, lengths, draft.work),
            seed=self.inputs.file.recipe.seed,
            progress=self.progress,
        )

    def examples(self, artifact: Artifact) -> Examples:
        """The rows to train and to measure importance on, tokenised for an artifact's model."""
        return Examples(tuple(self.data[role] for role in ROLES if role in self.data), self.serving(artifact))

    def _cached(
        self, name: str, version: int, identity: Mapping[str, Any], parent: str, make: Callable[[Draft], Mapping[str, Any]]
    ) -> Artifact:
        made_by = MadeBy(name=name, version=version, parameters={}, packages={})
        key = hash_json({"cached": name, "version": version, **identity})
        return self.store.get_or_make(key, format="measurement", parent=parent, made_by=made_by, make=make)

    def _layer_costs(self, shape: Shape, lengths: Sequence[int], work: Path) -> LatencyCosts:
        """Latencies of layers in INT8 on the layout's target.

        Args:
            shape: sizes of the encoder whose layers are measured.
            lengths: tokens of each text of the data.
            work: work folder of the step. The table is kept there, so that a step that was killed continues with the same
                table, even where the machine reports itself differently by then.
        """
        from edgebert.stages.prune.latency.latency_table import LatencyCosts, read_table, write_table
        from edgebert.stages.prune.latency.layer_latency import measure_table, served_lengths

        target, seed = self.inputs.layout.target, self.inputs.file.recipe.seed
        served = served_lengths(lengths, target, max_length=self.inputs.max_length, seed=seed)
        kept = work / f"latency-table-{hash_json([shape.heads, shape.intermediate_sizes])[:16]}.json"
        table = read_table(kept)
        if table is None:
            table = measure_table(
                shape,
                target=target,
                precision="int8",
                lengths=served,
                store=self.store,
                progress=self.progress,
                environment=read_environment(),
                remeasure=self.remeasure,
            )
            write_table(table, kept)
        if table.spread > BUSY:
            self.progress.note(
                f"the table of layer latencies was measured on a busy machine (spread {table.spread:.0%}); "
                "`edgebert compress --remeasure` measures it again"
            )
        return LatencyCosts(table, served)

    def _trials(self, target: Target, model: Artifact) -> MeasuredTrials:
        """The trials that measure candidates of a model on a target, against FP32 and the recipe's gates."""

        def reference() -> Reference:
            graph = self._make(self.inputs.layout.baselines[target.name])
            file = graph.path / get_runtime(target.runtime).model_file
            return Reference(file, target.for_baseline(), self.serving(graph))

        recipe = self.inputs.file.recipe
        return MeasuredTrials(reference, self.serving(model), self.data["select"], recipe.gates, recipe.seed, self.progress)

    def calibration(self, step: PlannedStep) -> list[Encoded]:
        """The tokenised calibration rows."""
        recipe = self.inputs.file.recipe
        data = self.data.get("calibration") or self.data["train"]
        rows = data.sample(min(calibration_samples(recipe.data.calibration), len(data)), recipe.seed)
        serving = self.serving(self.artifact(step.source))
        encoded = serving.encode(serving.open_tokenizer(), rows)
        if not self.compared:
            self.compared = True
            self._compare_texts(encoded, serving)
        return encoded

    def _compare_texts(self, calibration: Sequence[Encoded], serving: Serving) -> None:
        """Adds a note where calibration texts differ from the eval set's."""
        data, tokenizer = self.data["eval"], serving.open_tokenizer()
        served = serving.encode(tokenizer, data.sample(min(EVAL_ROWS, len(data)), self.inputs.file.recipe.seed))
        if note := drift(Texts.of(calibration, tokenizer), Texts.of(served, tokenizer)):
            self.progress.note(note)

    def serving(self, artifact: Artifact) -> Serving:
        """The serving of an artifact, with the tokenizer of the Transformers model that it was made from."""
        model = self.transformers_of(artifact)
        config = json.loads((model.path / "config.json").read_text())
        return Serving(
            task=self.tuned_task or self.inputs.task,
            labels=self.labels,
            max_length=self.inputs.max_length,
            pad_id=max(config.get("pad_token_id") or 0, 0),  # some write -1 for none
            tokenizer=model.path / "tokenizer.json",
        )

    def transformers_of(self, artifact: Artifact) -> Artifact:
        """The Transformers model that an artifact was made from."""
        return next(ancestor for ancestor in self.store.lineage(artifact) if ancestor.format == "transformers")

    def planned_entries(self) -> list[PlannedEntry]:
        """FP32 and every candidate on each target; on the first target also the intermediates."""
        layout = self.inputs.layout
        targets = {target.name: target for target in self.inputs.file.recipe.targets}
        entries = []
        intermediates = layout.intermediates
        for name, baseline in layout.baselines.items():
            entries.append(self._planned(targets[name], "baseline", baseline, "fp32"))
            entries += [
                self._planned(targets[name], "intermediate", point.graph, point.name, point.step) for point in intermediates
            ]
            labels = numbered([layout.steps[index].stage.candidate_name for index in layout.candidates[name]])
            candidates = zip(layout.candidates[name], labels, strict=True)
            entries += [self._planned(targets[name], "candidate", index, label) for index, label in candidates]
            intermediates = ()  # one target is enough to show the effect of a step
        return entries

    def intermediates_everywhere(self) -> list[PlannedEntry]:
        """The intermediates on every target for whose runtime a graph of them was made, measured or not."""
        targets = {target.name: target for target in self.inputs.file.recipe.targets}
        return [
            self._planned(targets[name], "intermediate", graph, point.name, point.step)
            for name in self.inputs.layout.baselines
            for point in self.inputs.layout.intermediates
            for graph in self._fp32_graphs(point.step, targets[name])
        ]

    def _fp32_graphs(self, model: int, target: Target) -> list[int]:
        """Steps that exported the model that a step made, in the format of a target's runtime."""
        wanted = get_runtime(target.runtime).format
        return [
            index
            for index, artifact in self.made.items()
            if artifact.format == wanted
            and self.inputs.layout.steps[index].stage.graph_precision == "fp32"
            and self.transformers_of(artifact).key == self.artifact(model).key
        ]

    def _planned(self, target: Target, role: Role, graph: int, short: str, maker: int | None = None) -> PlannedEntry:
        """The entry of a graph on a target.

        Args:
            graph: index of the step that made the graph.
            maker: index of the step whose label the entry has, where that is not `graph`.
        """
        steps, artifact = self.inputs.layout.steps, self.artifact(graph)
        return PlannedEntry(
            name=f"{target.name}/{short}",
            role=role,
            stage=steps[graph if maker is None else maker].stage.label,
            precision=steps[graph].stage.graph_precision,
            artifact=artifact,
            model=self.transformers_of(artifact),
            target=tuned(target, artifact) if role == "candidate" else target.for_baseline(),
            serving=self.serving(artifact),
        )


def tuned(target: Target, artifact: Artifact) -> Target:
    """The target with the settings that a search chose for the artifact."""
    search = artifact.facts.get("search")
    return target.with_tuning(search["tuning"]) if search else target
