"""TaskSpec: the recipe's `task`. What only one task has is among its options, flat beside the other fields."""

from __future__ import annotations

from typing import Any

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from edgebert.core.flat import any_of, merged_errors, part_of, unknown
from edgebert.core.strict import Strict
from edgebert.tasks import TASKS, get_task
from edgebert.tasks.base import Task
from edgebert.tasks.options import TaskOptions

TASK_NAMES = tuple(task.name for task in TASKS)


class TaskSpec(Strict):
    """The task of the model."""

    name: str = Field(description="What the model answers.")
    labels: tuple[str, ...] | None = Field(
        None,
        description="Label names in the order of the model's outputs. By default those of the model's config.json, or, where "
        "finetune makes the head, of data.train: in the file's own order, else numbers in turn and then names from a to z.",
    )
    max_length: int | None = Field(
        None,
        ge=3,  # [CLS] and the [SEP] of each sentence of a pair
        description="Longest input in tokens; longer inputs are truncated. By default what the model's positions allow.",
    )
    options: SerializeAsAny[TaskOptions] = TaskOptions()
    """The task's own options; in YAML and JSON each stands among the fields above."""

    @property
    def task(self) -> Task:
        """The task, with its options."""
        return get_task(self.name, self.options)

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in TASK_NAMES:
            raise unknown(TASK_NAMES)
        return name

    @field_validator("labels")
    @classmethod
    def _labels_distinct(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is not None and (len(labels) < 2 or len(set(labels)) < len(labels)):
            raise ValueError("needs two or more different labels")
        return labels

    @model_validator(mode="wrap")
    @classmethod
    def _read_flat(cls, data: Any, handler: ModelWrapValidatorHandler[TaskSpec]) -> TaskSpec:
        if not isinstance(data, dict) or isinstance(data.get("options"), TaskOptions):
            return handler(data)
        own = next((task.options_type for task in TASKS if task.name == data.get("name")), TaskOptions)
        given = {name: value for name, value in data.items() if name in own.model_fields}
        owners = {name: task for task in TASKS for name in task.options_type.model_fields}
        foreign = {name for name in data if name in owners and name not in given}
        rest = {name: value for name, value in data.items() if name not in given and name not in foreign}
        if isinstance(rest.get("labels"), list):  # JSON, where the data come from, has no tuples
            rest["labels"] = tuple(rest["labels"])
        _, options = merged_errors("TaskSpec", lambda: handler(rest), lambda: part_of(own, given))
        if foreign:
            name = min(foreign)
            raise ValueError(f"{name} is an option of {owners[name].name}; drop it for {data.get('name')}")
        return handler({**rest, "options": options})

    @model_validator(mode="after")
    def _labels_mean_something(self) -> TaskSpec:
        if self.labels is not None and not self.task.has_labels:
            raise ValueError(f"labels mean nothing for {self.name}, whose outputs are no labels; drop them")
        return self

    @model_serializer(mode="wrap")
    def _write_flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = handler(self)
        options = fields.pop("options")
        return {**fields, **options}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema with the options of every task, each of which says whose it is."""
        schema = handler.resolve_ref_schema(handler(core))
        fields = schema["properties"]
        del fields["options"]
        fields["name"]["enum"] = list(TASK_NAMES)
        names = dict.fromkeys(name for task in TASKS for name in task.options_type.model_fields)
        fields |= {name: _option_schema(name) for name in names}
        return schema

    @classmethod
    def field_names(cls) -> list[str]:
        """Names that a task has in YAML."""
        options = [name for task in TASKS for name in task.options_type.model_fields]
        return [*(name for name in cls.model_fields if name != "options"), *dict.fromkeys(options)]


def _option_schema(name: str) -> dict[str, Any]:
    owners = [task for task in TASKS if name in task.options_type.model_fields]
    schemas = [owner.options_type.model_json_schema()["properties"][name] for owner in owners]
    texts = [f"{owner.name} only: {schema['description']}" for owner, schema in zip(owners, schemas, strict=True)]
    return any_of(schemas, " ".join(texts))
