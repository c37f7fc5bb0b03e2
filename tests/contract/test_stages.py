"""The contract of every stage, tested over the registry: a new stage is tested before its author writes a line."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from edgebert.compress.compression import Compression
from edgebert.compress.layout import BASE, lay_out
from edgebert.compress.recipe import DataSpec, Recipe, normalise
from edgebert.compress.recipe_file import RecipeFile, load_recipe
from edgebert.compress.resolve import resolve_recipe
from edgebert.core.progress import Silent
from edgebert.core.store import Artifact, ArtifactStore, Draft, MadeBy, hash_folder, hash_json
from edgebert.data.prepared import prepare_data
from edgebert.runtimes import RUNTIMES, get_runtime
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.stages import STAGES
from edgebert.stages.base import ModelFacts, RunContext, Stage
from edgebert.stages.examples import Examples
from edgebert.stages.export import Export
from edgebert.stages.quantize import METHODS, Quantize
from edgebert.tasks import TASKS

FORMATS = {"transformers", *(runtime.format for runtime in RUNTIMES)}
NEEDS = {"train", "examples", "eval", "select", "calibration", "head", "teacher", "target", "machine", "gates"}
TARGETS = [Target(runtime=runtime.name) for runtime in RUNTIMES]
LABELS = ("negative", "positive")

every_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.stage_name())


def sample_of(stage: type[Stage]) -> Any:
    """The sample of YAML in a stage's docstring, parsed."""
    _, found, text = (stage.__doc__ or "").partition("Sample:\n")
    assert found, f"{stage.__name__} shows no sample of its YAML"
    return YAML(typ="safe").load(textwrap.dedent(text))


def recipe_with(stages: Any) -> Recipe:
    raw = {"model": "./model", "task": TASKS[0].name, "data": {"train": "t.csv", "eval": "e.csv"}, "stages": stages}
    return Recipe.model_validate_json(json.dumps(normalise(raw)))


def steps_of(stage: type[Stage]) -> list[Stage]:
    """Every step of the stage's example and of its sample."""
    entries = [stage.example(), *recipe_with(sample_of(stage)).stages]
    if issubclass(stage, Quantize):
        entries += [Quantize(method=tuple(method.method_name() for method in METHODS))]
    return list(dict.fromkeys(step for entry in entries for step in entry.expand(TARGETS)))


STEPS = [step for stage in STAGES for step in steps_of(stage)]
every_step = pytest.mark.parametrize("step", STEPS, ids=lambda step: step.label)
SLOW = {"export-onnx", "int8-neural-compressor"}
"""Steps that run for seconds."""
every_run = pytest.mark.parametrize(
    "step", [pytest.param(step, id=step.label, marks=[pytest.mark.slow] * (step.label in SLOW)) for step in STEPS]
)


@every_stage
def test_stage_has_a_name_of_its_own_and_a_version(stage: type[Stage]) -> None:
    assert [other.stage_name() for other in STAGES].count(stage.stage_name()) == 1
    assert isinstance(stage.version, int) and stage.version >= 1


@every_stage
def test_stage_shows_a_sample_of_its_yaml_that_a_recipe_accepts(stage: type[Stage]) -> None:
    found = recipe_with(sample_of(stage)).stages
    assert found and all(isinstance(entry, stage) for entry in found)


@every_stage
def test_example_survives_a_round_trip_through_a_recipe(stage: type[Stage]) -> None:
    example = stage.example()
    entry = {stage.stage_name(): example.model_dump(mode="json", exclude={"stage"})}
    assert recipe_with([entry]).stages == (example,)


@every_stage
def test_stage_is_frozen(stage: type[Stage]) -> None:
    example = stage.example()
    for name in stage.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(example, name, getattr(example, name))


@every_stage
def test_stage_rejects_keys_that_it_does_not_have(stage: type[Stage]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        stage(no_such_parameter=1)


@every_stage
def test_every_parameter_has_a_default(stage: type[Stage]) -> None:
    assert not [name for name, field in stage.model_fields.items() if field.is_required()]


@every_step
def test_label_is_unique_among_all_steps(step: Stage) -> None:
    assert [other.label for other in STEPS].count(step.label) == 1


@every_step
def test_expanded_step_expands_to_itself(step: Stage) -> None:
    assert step in step.expand([])


@every_step
def test_parameters_are_plain_json(step: Stage) -> None:
    assert json.loads(json.dumps(step.parameters(), allow_nan=False)) == step.parameters()
    assert "stage" not in step.parameters()


@every_step
def test_step_names_formats_needs_and_packages_that_are_known(step: Stage) -> None:
    assert {step.input_format(), step.output_format()} <= FORMATS
    assert step.needed() <= NEEDS
    assert step.required_packages()
    assert step.missing_packages() == []
    assert "none" not in step.package_versions().values()


class Milliseconds:
    """Made-up latencies of layers."""

    rest = 1.0
    whole = 20.0

    def attention(self, heads: int) -> float:
        """Milliseconds of a layer's attention."""
        return 0.2 + heads

    def ffn(self, neurons: int) -> float:
        """Milliseconds of a layer's FFN."""
        return 0.2 + neurons / 16


@dataclass(frozen=True)
class Bench:
    """A source artifact of each format, and the context of a stage."""

    store: ArtifactStore
    kept: ArtifactStore
    """The store of measurements that stages keep."""
    sources: Mapping[str, Artifact]

    def can_run(self, step: Stage) -> bool:
        """Whether the tiny model is large enough for the step."""
        base = self.sources["transformers"].path
        return not step.faults(ModelFacts(json.loads((base / "config.json").read_text()), 32, base / "tokenizer.json", {}))

    def context(self, out: Path, work: Path) -> RunContext:
        """Everything that any stage needs."""
        base = self.sources["transformers"]
        data = {
            role: prepare_data(
                DataSpec(path=f"{role}.csv"), role, base=self.store.root, task=TASKS[0], store=self.store, progress=Silent()
            )
            for role in ("train", "eval")
        }
        data["select"] = data["eval"]
        serving = Serving(TASKS[0], LABELS, 32, 0, base.path / "tokenizer.json")
        return RunContext(
            out=out,
            work=work,
            task=TASKS[0],
            labels=LABELS,
            max_length=32,
            data=data,
            serving=lambda artifact: serving,
            calibration=serving.encode(serving.open_tokenizer(), data["train"].sample(8, seed=0)),
            teacher=base,
            models={},
            examples=lambda artifact: Examples((data["train"],), serving),
            lineage=self.store.lineage,
            cached=self.cached,
            layer_costs=lambda shape, lengths: Milliseconds(),
            trials=lambda target, model: pytest.fail("only auto tries candidates, and no sample names it"),
            seed=0,
            progress=Silent(),
        )

    def cached(
        self, name: str, version: int, identity: Any, parent: str, make: Callable[[Draft], Mapping[str, Any]]
    ) -> Artifact:
        """Keeps measurements in a store of their own, so that files written anywhere else show."""
        made_by = MadeBy(name=name, version=version, parameters={}, packages={})
        key = hash_json({"name": name, **identity})
        return self.kept.get_or_make(key, format="measurement", parent=None, made_by=made_by, make=make)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Bench:
    """The tiny model in every format. Its artifacts are shared; no test may change them."""
    store = ArtifactStore(tmp_path_factory.mktemp("bench"))
    store.prepare()
    kept = ArtifactStore(tmp_path_factory.mktemp("kept"))
    kept.prepare()
    for name in ("train.csv", "eval.csv"):
        shutil.copyfile(finished / "data" / name, store.root / name)
    bundle = finished / "runs" / "recipe" / "bundle"
    folders = {"transformers": finished / "model", "onnx": bundle / "onnx", "openvino": bundle / "openvino"}
    files = {"onnx": ["model.onnx"], "openvino": ["openvino_model.xml", "openvino_model.bin"]}

    def copied(format: str) -> Artifact:
        def make(draft: Draft) -> Mapping[str, Any]:
            for name in files.get(format) or [file.name for file in folders[format].iterdir()]:
                shutil.copyfile(folders[format] / name, draft.out / name)
            return {}

        made_by = MadeBy(name="test", version=1, parameters={}, packages={})
        return store.get_or_make(hash_json(format), format=format, parent=None, made_by=made_by, make=make)

    assert set(folders) == FORMATS, "give the bench a source of the new format"
    return Bench(store, kept, {format: copied(format) for format in folders})


def tree(folder: Path) -> dict[str, str]:
    """Every path below a folder -> the hash of its content."""
    return {
        str(path.relative_to(folder)): "folder" if path.is_dir() else hash_json(path.read_bytes().hex())
        for path in folder.rglob("*")
    }


@dataclass(frozen=True)
class Run:
    """A run of a step: its folders and its facts."""

    place: Path
    facts: Mapping[str, Any]

    @property
    def out(self) -> Path:
        """The folder of the result."""
        return self.place / "out"


def run(step: Stage, bench: Bench, place: Path) -> Run:
    """Runs a step in folders below `place`; the current folder and the one for temporary files are there too."""
    if not bench.can_run(step):
        pytest.skip("the sample is for a larger model")
    for name in ("out", "work", "here", "temporary"):
        (place / name).mkdir(parents=True)
    context = bench.context(place / "out", place / "work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place / "here")
        patch.setattr(tempfile, "tempdir", str(place / "temporary"))
        patch.setenv("TMPDIR", str(place / "temporary"))
        return Run(place, step.run(bench.sources[step.input_format()], context))


@pytest.fixture(scope="module")
def first_run(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Stage], Run]:
    """Gives the first run of a step, made when it is first asked for."""
    return functools.cache(lambda step: run(step, bench, tmp_path_factory.mktemp(step.label)))


@every_run
def test_run_writes_into_its_two_folders_and_nowhere_else(step: Stage, bench: Bench, first_run: Callable[[Stage], Run]) -> None:
    bench.context(Path(), Path())  # its data set is in the store before the first look
    before = tree(bench.store.root)
    done = first_run(step)
    assert tree(done.out)
    assert {entry.name for entry in done.place.iterdir()} == {"out", "work", "here", "temporary"}
    assert tree(done.place / "here") == tree(done.place / "temporary") == {}
    assert not [path for path in done.place.rglob("*") if path.is_symlink()]
    assert tree(bench.store.root) == before


@every_run
def test_run_leaves_its_source_unchanged(step: Stage, bench: Bench, first_run: Callable[[Stage], Run]) -> None:
    first_run(step)
    bench.sources[step.input_format()].verify()


@every_run
@pytest.mark.usefixtures("real_exports")
def test_run_makes_the_same_files_and_facts_when_it_runs_twice(
    step: Stage, bench: Bench, first_run: Callable[[Stage], Run], tmp_path: Path
) -> None:
    first, second = first_run(step), run(step, bench, tmp_path)
    assert hash_folder(first.out) == hash_folder(second.out)
    assert json.loads(json.dumps(first.facts, allow_nan=False)) == first.facts == second.facts


@every_run
def test_run_makes_an_artifact_of_the_format_that_it_says(step: Stage, first_run: Callable[[Stage], Run]) -> None:
    out = first_run(step).out
    if step.output_format() == "transformers":
        assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= tree(out).keys()
        return
    runtime = next(runtime for runtime in RUNTIMES if runtime.format == step.output_format())
    session = runtime.open(out / runtime.model_file, Target(runtime="onnxruntime"))
    ids = np.arange(5, 15, dtype=np.int64).reshape(1, -1)
    logits = session.predict({"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)})
    assert logits["logits"].shape == (1, len(LABELS))
    assert np.isfinite(logits["logits"]).all()


class Damp(Stage):
    """Multiplies the classifier's weights: a stage that changes the weights and is not the teacher.

    Sample:

        - damp: {factor: 0.5}
    """

    stage: Literal["damp"] = "damp"
    factor: float = 0.5

    version: ClassVar[int] = 1
    accepts: ClassVar[str] = "transformers"
    produces: ClassVar[str] = "transformers"
    needs: ClassVar[frozenset[str]] = frozenset({"head", "teacher"})
    packages: ClassVar[tuple[str, ...]] = ("safetensors",)

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes a Transformers folder."""
        from safetensors.torch import load_file, save_file

        assert context.teacher is not None
        for name in source.manifest.files:
            shutil.copyfile(source.path / name, context.out / name)
        tensors = load_file(source.path / "model.safetensors")
        tensors["classifier.weight"] *= self.factor
        save_file(tensors, context.out / "model.safetensors", metadata={"format": "pt"})
        return {"teacher": context.teacher.sha256}


@pytest.mark.parametrize("quantised", [False, True])
def test_fp32_stays_the_teacher_when_a_later_stage_changes_the_weights(quantised: bool) -> None:
    quantize = next(stage for stage in STAGES if stage.stage_name() == "quantize").example()
    stages = (Damp(), Export(), *([quantize] if quantised else []))
    layout, problems = lay_out(recipe_with(["export"]).model_copy(update={"stages": stages}), has_head=True)
    assert layout is not None, problems
    names = [step.stage.label for step in layout.steps]
    assert layout.teacher == BASE
    baseline, (candidate,) = layout.baselines["onnxruntime"], layout.candidates["onnxruntime"]
    assert (names[baseline], layout.steps[baseline].source) == ("export-onnx", BASE)
    assert names[candidate] == ("int8-dynamic" if quantised else "export-onnx")
    graph = layout.steps[candidate].source if quantised else candidate
    assert layout.steps[graph].source == names.index("damp")
    assert layout.steps[names.index("damp")].source == BASE


def test_fp32_stays_the_fine_tuned_model_when_a_later_stage_changes_the_weights() -> None:
    finetune = next(stage for stage in STAGES if stage.stage_name() == "finetune").example()
    recipe = recipe_with(["export"]).model_copy(update={"stages": (finetune, Damp(), Damp(factor=0.25), Export())})
    layout, problems = lay_out(recipe, has_head=False)
    assert layout is not None, problems
    assert layout.teacher == 0
    assert layout.steps[layout.baselines["onnxruntime"]].source == 0
    (candidate,) = layout.candidates["onnxruntime"]
    assert layout.steps[layout.steps[candidate].source].stage == Damp(factor=0.25)


@pytest.mark.slow
def test_candidate_is_the_export_of_the_changed_weights_when_a_recipe_changes_them(recipe: Path, store: ArtifactStore) -> None:
    file = load_recipe(str(recipe))
    changed = file.recipe.model_copy(update={"stages": (Damp(), Export())})
    compression = Compression(resolve_recipe(RecipeFile(changed, file.path)), store, Silent())
    compression.run_stages()
    baseline, candidate = compression.planned_entries()
    assert (baseline.role, candidate.role) == ("baseline", "candidate")
    assert compression.transformers_of(baseline.artifact) == compression.base
    damped = compression.transformers_of(candidate.artifact)
    assert damped.facts == {"teacher": compression.base.sha256}
    answers = []
    for planned in (baseline, candidate):
        session = get_runtime(planned.target.runtime).open(planned.model_file, planned.target)
        serving = planned.serving
        encoded = serving.encode(serving.open_tokenizer(), [{"text": "a good film"}, {"text": "an awful soup"}])
        answers.append(session.predict(serving.batch(encoded, planned.target))["logits"])
    bias = np.asarray(_bias(compression.base))
    np.testing.assert_allclose(answers[1] - bias, (answers[0] - bias) / 2, atol=1e-4)


def _bias(model: Artifact) -> Any:
    from safetensors.numpy import load_file

    return load_file(model.path / "model.safetensors")["classifier.bias"]
