"""The JSON schema of quantize: all parameters flat, and a schema for each method, which holds where it is named alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgebert.core.flat import any_of
from edgebert.stages.quantize.method import Method
from edgebert.stages.quantize.methods import METHODS, owners_of

Schema = dict[str, Any]


def with_methods(schema: Schema) -> Schema:
    """The stage's schema with the parameters of every method.

    Args:
        schema: the stage's own; `chosen` is dropped from it.
    """
    fields = schema["properties"]
    del fields["chosen"]
    shared = {name: fields[name] for name in ("stage", "embeddings")}
    alone = {method: _alone(method, shared) for method in METHODS}
    fields |= dict(_parameters(alone))
    schema["allOf"] = [{"if": _is_named(method), "then": definition} for method, definition in alone.items()]
    return schema


def _is_named(method: type[Method]) -> Schema:
    """Holds where a recipe names this method and no other."""
    return {"properties": {"method": {"const": method.method_name()}}, "required": ["method"]}


def _alone(method: type[Method], shared: Schema) -> Schema:
    """What a recipe may say of one method."""
    schema = method.model_json_schema()
    return {**schema, "title": method.method_name(), "properties": {**schema["properties"], **shared}}


def _parameters(alone: dict[type[Method], Schema]) -> Iterator[tuple[str, Schema]]:
    """Each parameter with the names of its methods before its description."""
    for name in dict.fromkeys(name for method in alone for name in method.parameters()):
        schemas = [definition["properties"][name] for method, definition in alone.items() if name in method.parameters()]
        yield name, any_of(schemas, f"For {', '.join(owners_of(name))}: {schemas[0]['description']}")
