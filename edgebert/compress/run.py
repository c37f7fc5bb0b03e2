"""compress: the one loop, from a recipe to a bundle and a verdict.

What ran is found in the store by its key and never run again; a killed run goes on where it stopped.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebert.bundle.parts import BundleEntry, BundleParts, PlannedEntry
from edgebert.bundle.write import write_bundle
from edgebert.compress.check import Check
from edgebert.compress.keys import step_key
from edgebert.compress.layout import BASE, PlannedStep, numbered
from edgebert.compress.recipe_file import RecipeFile
from edgebert.compress.resolve import (
    SAME_LABELS,
    ResolvedRecipe,
    calibration_samples,
    label_fault,
    resolve_labels,
    resolve_recipe,
)
from edgebert.compress.run_folder import output_folder
from edgebert.core.progress import Progress
from edgebert.core.store import Artifact, ArtifactStore, Draft, MadeBy, hash_json
from edgebert.data.drift import EVAL_ROWS, Texts, drift
from edgebert.data.prepared import PreparedData, indices_of_labels, prepare_data
from edgebert.errors import DataError, EdgebertError, SourceError, StageError
from edgebert.measure.machine.environment import read_environment
from edgebert.models.import_model import import_model
from edgebert.report.entry import Role
from edgebert.report.file import write_report
from edgebert.report.report import Report
from edgebert.report.verdict import Verdict, judge
from edgebert.runtimes import get_runtime
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.stages.base import RunContext
from edgebert.stages.examples import ROLES, Examples
from edgebert.stages.quantize.trials import MeasuredTrials, Reference
from edgebert.tasks.base import Encoded

if TYPE_CHECKING:
    from edgebert.models.sizes import Shape
    from edgebert.stages.prune.latency.latency_table import LatencyCosts

FULL_BYTES = 1 << 20
"""A disk with less left than this is full: a library that failed there most likely failed for that."""
BUSY = 0.15
"""A table of latencies whose rounds spread more than this is mentioned."""


@dataclass(frozen=True)
class Run:
    """What a run leaves."""

    verdict: Verdict
    report: Report
    folder: Path
    bundle: Path


@dataclass
class Compression:
    """One run. Its parts are made when first asked for, each from the store where it is there."""

    inputs: ResolvedRecipe
    store: ArtifactStore
    progress: Progress
    made: dict[int, Artifact] = field(default_factory=dict)
    reused: set[int] = field(default_factory=set)
    remeasure: bool = False
    """Measure tables of layer latencies again, and make again what was chosen by the old ones."""
    compared: bool = False
    """Whether calibration texts were compared with the eval set's."""

    @cached_property
    def base(self) -> Artifact:
        """The recipe's model, copied into the store, with a tokenizer.json."""
        return import_model(self.inputs.model, self.store, self.progress)

    @cached_property
    def models(self) -> dict[str, Artifact]:
        """The other models that stages name, copied as well."""
        return {name: import_model(model, self.store, self.progress) for name, model in self.inputs.models.items()}

    @cached_property
    def data(self) -> dict[str, PreparedData]:
        """Every data set that is needed, read and checked."""
        found = {
            role: prepare_data(
                spec, role, base=self.inputs.file.base, task=self.inputs.task, store=self.store, progress=self.progress
            )
            for role, spec in self.inputs.specs.items()
        }
        if "train" in found and found["train"].artifact.sha256 == found["eval"].artifact.sha256:
            raise DataError(
                "data.train and data.eval hold the same rows.", hint="A model is judged on rows that it was not trained on."
            )
        return found

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the model's outputs; every data set's labels are among them."""
        labels = resolve_labels(self.inputs, self.data.get("train"))
        for data in self.data.values():
            indices_of_labels(data, self.inputs.task, labels)
        for name, model in self.inputs.models.items():  # where finetune makes the head, only the data names the labels
            if fault := label_fault(name, model, labels):
                raise SourceError(fault, hint=SAME_LABELS)
        return labels

    def run_stages(self) -> None:
        """Makes the artifact of every step."""
        self.require_packages()
        _ = self.base, self.models, self.data, self.labels  # faults in the input come before the first minute of work
        for index in range(len(self.inputs.layout.steps)):
            self._make(index)

    def _make(self, index: int) -> Artifact:
        """The artifact of a step, whose source is made before."""
        if index == BASE:
            return self.base
        if index not in self.made:
            step = self.inputs.layout.steps[index]
            self._make(step.source)
            self.made[index] = self._run(index, step)
        return self.made[index]

    def require_packages(self) -> None:
        """Raises MissingPackage for what a step or a target lacks, but not for a stage that the store may have done."""
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
        """Key of a step whose source is made."""
        teacher = self.artifact(self.inputs.layout.teacher) if "teacher" in step.stage.needed() else None
        return step_key(step, self.artifact(step.source), self.inputs, self.labels, teacher)

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
                shutil.rmtree(draft.work)  # a killed run's steps, chosen by the old table
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
            name=stage.stage_name(),
            version=stage.version,
            parameters=stage.parameters(),
            packages=stage.package_versions(),
        )
        return self.store.get_or_make(key, format=stage.output_format(), parent=source.key, made_by=made_by, make=make)

    def _explained(self, error: Exception, step: PlannedStep, draft: Draft) -> Exception:
        """What a stage raised, in words for the user."""
        if shutil.disk_usage(draft.out).free < FULL_BYTES:  # libraries say so each in its way, or leave a damaged file
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if isinstance(error, SourceError) and step.source == BASE:  # it names the store's copy, which the user never saw
            told = error.message.replace(str(self.base.path), str(self.inputs.model.path))
            return SourceError(told, hint=error.hint)
        if isinstance(error, EdgebertError):
            return error
        first = (str(error).strip().splitlines() or [""])[0]
        return StageError(  # what a library raises is its own affair; the user needs the stage and a way on
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
        """The rows to train and weigh on, tokenised for an artifact's model."""
        return Examples(tuple(self.data[role] for role in ROLES if role in self.data), self.serving(artifact))

    def _cached(
        self, name: str, version: int, identity: Mapping[str, Any], parent: str, make: Callable[[Draft], Mapping[str, Any]]
    ) -> Artifact:
        made_by = MadeBy(name=name, version=version, parameters={}, packages={})
        key = hash_json({"cached": name, "version": version, **identity})
        return self.store.get_or_make(key, format="measurement", parent=parent, made_by=made_by, make=make)

    def _layer_costs(self, shape: Shape, lengths: Sequence[int], work: Path) -> LatencyCosts:
        """What layers cost in INT8 on the layout's target.

        Args:
            lengths: tokens of each text of the data.
            work: of the step. It keeps the table, so that a killed step goes on with the one that it began with, whatever
                the machine says of itself by then.
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
        """What measures candidates of a model for a target, against FP32 and the recipe's gates."""

        def reference() -> Reference:
            graph = self._make(self.inputs.layout.baselines[target.name])
            file = graph.path / get_runtime(target.runtime).model_file
            return Reference(file, target.for_baseline(), self.serving(graph))

        recipe = self.inputs.file.recipe
        return MeasuredTrials(reference, self.serving(model), self.data["eval"], recipe.gates, recipe.seed, self.progress)

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
        """Notes where calibration texts are unlike the eval set's."""
        data, tokenizer = self.data["eval"], serving.open_tokenizer()
        served = serving.encode(tokenizer, data.sample(min(EVAL_ROWS, len(data)), self.inputs.file.recipe.seed))
        if note := drift(Texts.of(calibration, tokenizer), Texts.of(served, tokenizer)):
            self.progress.note(note)

    def serving(self, artifact: Artifact) -> Serving:
        """How text reaches that artifact: by the tokenizer of the Transformers model that it comes from."""
        model = self.transformers_of(artifact)
        config = json.loads((model.path / "config.json").read_text())
        return Serving(
            task=self.inputs.task,
            labels=self.labels,
            max_length=self.inputs.max_length,
            pad_id=config.get("pad_token_id") or 0,
            tokenizer=model.path / "tokenizer.json",
        )

    def transformers_of(self, artifact: Artifact) -> Artifact:
        """The Transformers model that an artifact was made from."""
        return next(ancestor for ancestor in self.store.lineage(artifact) if ancestor.format == "transformers")

    def planned_entries(self) -> list[PlannedEntry]:
        """FP32 and every candidate, on each target; on the first also what each step left that changed the weights."""
        layout = self.inputs.layout
        targets = {target.name: target for target in self.inputs.file.recipe.targets}
        found = []
        intermediates = layout.intermediates
        for name, baseline in layout.baselines.items():
            found.append(self._planned(targets[name], "baseline", baseline, "fp32"))
            found += [
                self._planned(targets[name], "intermediate", point.graph, point.name, point.step) for point in intermediates
            ]
            labels = numbered([layout.steps[place].stage.candidate_name for place in layout.candidates[name]])
            places = zip(layout.candidates[name], labels, strict=True)
            found += [self._planned(targets[name], "candidate", place, label) for place, label in places]
            intermediates = ()  # one target shows what a step does to the model
        return found

    def _planned(self, target: Target, role: Role, graph: int, short: str, maker: int | None = None) -> PlannedEntry:
        """The graph at a place. `maker` is the place of the step that it stands for, where that is not its own."""
        steps, artifact = self.inputs.layout.steps, self.artifact(graph)
        return PlannedEntry(
            name=f"{target.name}/{short}",
            role=role,
            stage=steps[graph if maker is None else maker].stage.label,
            precision=steps[graph].stage.graph_precision,
            artifact=artifact,
            model=self.transformers_of(artifact),
            target=tuned(target, artifact) if role == "candidate" else target.for_baseline(),  # only candidates are tuned
            serving=self.serving(artifact),
        )


def tuned(target: Target, artifact: Artifact) -> Target:
    """The target with the settings that a search found best for the artifact."""
    search = artifact.facts.get("search")
    return target.with_tuning(search["tuning"]) if search else target


def compress(file: RecipeFile, *, store: ArtifactStore, out: Path, progress: Progress, remeasure: bool = False) -> Run:
    """Runs a recipe.

    Args:
        out: the run's folder; replaced as a whole, at the end.
        remeasure: measure again even where the store holds the measurement, and choose again what was chosen by one.

    Raises:
        EdgebertError: the input, the environment or a stage does not let the run finish.
    """
    started = time.time()
    inputs = resolve_recipe(file)
    for target in inputs.layout.idle_targets:
        progress.note(f"{target.name}: no stage makes a candidate for it; left out")
    store.prepare()
    with store.lease(out), output_folder(out) as folder:
        run = Compression(inputs, store, progress, remeasure=remeasure)
        run.run_stages()
        planned_entries = run.planned_entries()
        check = Check(file, run.data["eval"], store, progress, read_environment(), remeasure)
        report, outputs = check.run(planned_entries)
        verdict = judge(report)
        with progress.step("write the bundle"):
            write_bundle(folder / "bundle", _parts(run, planned_entries, report, verdict, outputs), note=progress.note)
        write_report(folder / "report.json", report)
        (folder / "run.json").write_text(json.dumps(run_record(run, verdict, started), indent=1))
    return Run(verdict, report, out, out / "bundle")


def _parts(
    run: Compression, planned_entries: list[PlannedEntry], report: Report, verdict: Verdict, outputs: Mapping[str, Any]
) -> BundleParts:
    kept = {judged.entry.name for judged in verdict.judged_entries if judged.passed} | {verdict.best.entry.name}
    judged_entries = {judged.entry.name: judged for judged in verdict.judged_entries}
    best = next(planned for planned in planned_entries if planned.name == verdict.best.entry.name)
    variants = [
        BundleEntry(planned, judged_entries.get(planned.name), outputs[planned.name])
        for planned in planned_entries
        if (planned.role == "baseline" or planned.name in kept) and planned.serving.equals(best.serving)
    ]
    return BundleParts(
        name=run.inputs.file.name,
        model=run.transformers_of(best.artifact),
        serving=best.serving,
        variants=variants,
        report=report,
        verdict=verdict,
        lineage=[_lineage_entry(artifact) for artifact in run.store.lineage(best.artifact)],
    )


def _lineage_entry(artifact: Artifact) -> dict[str, Any]:
    made_by = artifact.manifest.made_by
    parameters = dict(made_by.parameters)
    if made_by.name == "model":
        parameters["source"] = _without_folders(str(parameters["source"]))
    if "teachers" in parameters:
        parameters["teachers"] = [_without_folders(name) for name in parameters["teachers"]]
    return {
        "stage": made_by.name,
        "parameters": parameters,
        "sha256": artifact.sha256,
        "packages": made_by.packages,
    }


def _without_folders(name: str) -> str:
    """A bundle does not tell where it was made."""
    return Path(name).name if Path(name).is_absolute() else name


def run_record(run: Compression, verdict: Verdict, started: float) -> dict[str, Any]:
    """What run.json holds: the recipe, versions, hashes, lineage and times."""
    steps = []
    for index, step in enumerate(run.inputs.layout.steps):
        artifact = run.artifact(index)
        steps.append(
            {
                "step": step.stage.label,
                "key": artifact.key,
                "sha256": artifact.sha256,
                "parent": artifact.parent,
                "found_in_store": index in run.reused,
                "seconds": artifact.manifest.made_by.seconds,
                "facts": dict(artifact.facts),
            }
        )
    return {
        "recipe": run.inputs.file.recipe.model_dump(mode="json"),
        "model": {"origin": dict(run.inputs.model.origin), "sha256": run.base.sha256},
        "data": {role: {"rows": len(data), "sha256": data.artifact.sha256} for role, data in run.data.items()},
        "labels": list(run.labels),
        "environment": read_environment().model_dump(mode="json"),
        "steps": steps,
        "left_out": [target.name for target in run.inputs.layout.idle_targets],
        "verdict": verdict.status,
        "best": verdict.best.entry.name,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
    }
