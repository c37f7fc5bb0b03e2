"""Recipe: the settings of `edgebert compress` as a frozen and strict model, and its JSON Schema for editors.

`edgebert.compress.recipe_file` reads a recipe from YAML. Relative paths in it are relative to the recipe's own folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import AliasChoices, Field, field_validator

from edgebert.compress.task_spec import TASK_NAMES, TaskSpec
from edgebert.core.strict import Strict
from edgebert.data.spec import CalibrationSpec, DataSpec
from edgebert.models.source import ModelSource
from edgebert.report.gates import Gate
from edgebert.runtimes import RUNTIMES
from edgebert.runtimes.target import Target
from edgebert.stages import STAGES
from edgebert.stages.base import Stage
from edgebert.tasks import get_task
from edgebert.tasks.base import Task
from edgebert.tasks.metrics.own import NAME

SCHEMA_URI = "https://json-schema.org/draft/2020-12/schema"
RUNTIME_NAMES = tuple(runtime.name for runtime in RUNTIMES)

if TYPE_CHECKING:
    AnyStage = Stage
else:
    AnyStage = Annotated[Union[STAGES], Field(discriminator="stage")]  # noqa: UP007 - a tuple cannot be joined with |


class Data(Strict):
    """The data sets of a run."""

    train: DataSpec | None = Field(None, description="Needed by finetune, prune and distill; calibration falls back on it.")
    transfer: DataSpec | None = Field(
        None, description="Rows without labels for distill and prune, answered by the teacher. Used beside train, or alone."
    )
    eval: DataSpec = Field(description="Rows on which the gates are decided. Never used for training or calibration.")
    select: DataSpec | None = Field(
        None,
        description="Rows on which quantize auto, methods that use the score, and prune to a share of the score choose, so "
        "that eval decides only once. By default a tenth of train, held out of it by the seed (256 to 2,000 rows, at most a "
        "quarter); without train, or with fewer than 256 rows of it, eval.",
    )
    calibration: CalibrationSpec | None = Field(None, description="Rows for calibration. By default 128 rows of train.")


class Measure(Strict):
    """Settings of the latency measurement: single-stream, FP32 and candidates in alternating fresh processes."""

    rounds: int = Field(4, ge=1, description="Fresh processes for each model.")
    queries: int = Field(200, ge=1, description="Queries in each process, drawn from eval in a seeded order.")
    warmup: int = Field(20, ge=0, description="Queries before the clock starts.")
    golden_inputs: int = Field(
        8,
        ge=1,
        validation_alias=AliasChoices("golden_inputs", "goldens"),
        description="Inputs whose outputs go into the bundle for its self-test.",
    )


def default_gate(task: Task) -> Gate:
    """99 % of FP32's value of a task's first metric."""
    return Gate.model_validate({"metric": task.metrics[0].name, "min_ratio": 0.99})


class Recipe(Strict):
    """One compression run."""

    model: ModelSource = Field(description="The model to compress: its source as text, or with a pin.")
    task: TaskSpec = Field(description="What the model answers: the task's name, or with labels and lengths.")
    data: Data = Field(description="Data sets, each a file or a mapping, of which eval is required.")
    stages: tuple[AnyStage, ...] = Field(
        min_length=1,
        description="Techniques in their order, each a name or `name: {fields}`. The last make the candidates.",
    )
    targets: tuple[Target, ...] = Field(
        default=(Target(runtime="onnxruntime"),),
        min_length=1,
        description="Where the model is to run: every candidate of a target is measured there and judged by the gates.",
    )
    gates: tuple[Gate, ...] = Field(
        default_factory=lambda known: (default_gate(known["task"].task),) if "task" in known else (),
        description="Bounds that a candidate has to hold. By default 99 % of FP32's value of the task's first metric.",
    )
    metrics: tuple[str, ...] = Field(
        (),
        description="Metrics of your own beside the task's: `package.module:function`, or `file.py:function` beside "
        "the recipe. The function is run: (predictions, right answers, labels) -> statistics, a row for each example.",
    )
    measure: Measure = Field(Measure(), description="How latency is measured, and the inputs of the bundle's self-test.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of everything that is drawn: training, samples, orders of queries.")

    @field_validator("metrics")
    @classmethod
    def _metrics_name_functions(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        if strange := next((name for name in metrics if not NAME.fullmatch(name)), None):
            raise ValueError(f"{strange!r} names no function: write package.module:function, or file.py:function")
        if len({*metrics}) < len(metrics):
            raise ValueError("names a metric twice")
        return metrics

    @field_validator("targets")
    @classmethod
    def _targets_can_be_shipped(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        if strange := next((target.runtime for target in targets if target.runtime not in RUNTIME_NAMES), None):
            raise ValueError(f"{strange} can be measured with `edgebert bench`, but a target is {' or '.join(RUNTIME_NAMES)}")
        return targets

    @field_validator("targets")
    @classmethod
    def _targets_distinct(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        names = [target.name for target in targets]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated:
            raise ValueError(f"two targets are the same ({repeated}); drop one")
        return targets


def normalise(raw: Any) -> Any:
    """Expands the short forms of a recipe: a model, task or data set given as text, a stage given as its name.

    `- quantize: {method: static}` becomes `{"stage": "quantize", "method": "static"}`, so that errors have the path
    `stages.2.quantize.method`, as in the user's file.
    """
    if not isinstance(raw, dict):
        return raw
    recipe = dict(raw)
    for field, key in (("model", "source"), ("task", "name")):
        if isinstance(recipe.get(field), str):
            recipe[field] = {key: recipe[field]}
    if isinstance(recipe.get("data"), dict):
        recipe["data"] = {name: {"path": entry} if isinstance(entry, str) else entry for name, entry in recipe["data"].items()}
    recipe.setdefault("gates", _default_gates(recipe.get("task")))  # a default of the model would add a fault to each other one
    if isinstance(recipe.get("stages"), list):
        recipe["stages"] = [_normalise_stage(entry) for entry in recipe["stages"]]
    return recipe


def _default_gates(task: Any) -> list[dict[str, Any]]:
    """The gates of a recipe without any; none where its task is not known, which is an error of its own."""
    name = task.get("name") if isinstance(task, dict) else None
    return [default_gate(get_task(name)).model_dump(exclude_none=True)] if name in TASK_NAMES else []


def _normalise_stage(entry: Any) -> Any:
    if isinstance(entry, str):
        return {"stage": entry}
    if isinstance(entry, dict) and len(entry) == 1:
        ((name, parameters),) = entry.items()
        if parameters is None:
            return {"stage": name}
        if isinstance(parameters, dict) and "stage" not in parameters:
            return {"stage": name, **parameters}
    return entry


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe file, short forms included."""
    schema = Recipe.model_json_schema()
    definitions = schema["$defs"]
    shorthand: dict[str, dict[str, Any]] = {"ModelSource": {"type": "string"}, "TaskSpec": {"enum": list(TASK_NAMES)}}
    for field, definition in (("model", "ModelSource"), ("task", "TaskSpec")):
        short = {"anyOf": [shorthand[definition], {"$ref": f"#/$defs/{definition}"}]}
        schema["properties"][field] = {**short, "description": schema["properties"][field]["description"]}
    for field in ("train", "transfer", "eval", "select", "calibration"):
        entry = definitions["Data"]["properties"][field]
        entry["anyOf"] = [{"type": "string"}, *entry.get("anyOf", [{"$ref": entry.pop("$ref", "#/$defs/DataSpec")}])]
    names = definitions["Target"]["properties"]["runtime"]
    names["enum"] = [name for name in names["enum"] if name in RUNTIME_NAMES]  # others are measured alone
    schema["properties"]["stages"]["items"] = {"anyOf": [_stage_schema(definitions, stage) for stage in STAGES]}
    return {"$schema": SCHEMA_URI, **schema, "title": "edgebert recipe"}


def _stage_schema(definitions: dict[str, Any], stage: type[Stage]) -> dict[str, Any]:
    definition = definitions[stage.__name__]
    definition["properties"].pop("stage", None)
    definition["required"] = [name for name in definition.get("required", []) if name != "stage"]
    name = stage.stage_name()
    keyed = {
        "type": "object",
        "properties": {name: {"anyOf": [{"$ref": f"#/$defs/{stage.__name__}"}, {"type": "null"}]}},
        "required": [name],
        "additionalProperties": False,
    }
    return {"anyOf": [{"const": name}, keyed], "description": (stage.__doc__ or "").split("\n")[0]}
