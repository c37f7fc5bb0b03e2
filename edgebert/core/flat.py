"""Flat models: some of a model's fields depend on another field, and still stand beside it in YAML and JSON.

A target's options are those of its runtime, a quantisation's parameters those of its method. Each is a model of its own, kept
in one hidden field. `merged_errors` reports the faults of all parts at once, at the paths that users know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, to_json

Model = TypeVar("Model", bound=BaseModel)


def part_of(model: type[Model], fields: Mapping[str, Any]) -> Model:
    """The fields as a model of their own. They are read as JSON, which has lists for tuples: JSON is where most come from.

    Raises:
        ValidationError: with paths that begin at the fields.
    """
    return model.model_validate_json(to_json(dict(fields), fallback=repr))


def merged_errors(title: str, *makers: Callable[[], Any]) -> list[Any]:
    """What each maker returns.

    Raises:
        ValidationError: with the errors of all makers, each once.
    """
    made, errors = [], {}
    for make in makers:
        try:
            made.append(make())
        except ValidationError as error:
            errors.update({(item["loc"], item["type"]): item for item in error.errors(include_url=False)})
    if errors:
        raise ValidationError.from_exception_data(title, [_again(dict(item)) for item in errors.values()])
    return made


def _again(item: dict[str, Any]) -> InitErrorDetails:
    """An error as it is raised anew: a known kind makes its own message."""
    details = InitErrorDetails(type=item["type"], loc=item["loc"], input=item["input"])
    if "ctx" in item:
        details["ctx"] = item["ctx"]
    try:
        ValidationError.from_exception_data("", [details])
    except (KeyError, TypeError, ValueError):  # a kind of our own
        details["type"] = PydanticCustomError(item["type"], item["msg"].replace("{", "{{"), item.get("ctx"))
    return details


def unknown(known: Sequence[str]) -> PydanticCustomError:
    """The error of a name that is not registered, as that of a Literal."""
    listed = " or ".join(repr(name) for name in known)
    return PydanticCustomError("literal_error", f"Input should be {listed}", {"expected": listed})


def any_of(schemas: Sequence[dict[str, Any]], description: str) -> dict[str, Any]:
    """The JSON schema of a field that several parts have: one schema where they agree, else any of theirs.

    Args:
        description: what it says of them all.
    """
    plain = [{name: value for name, value in schema.items() if name != "description"} for schema in schemas]
    distinct = [schema for index, schema in enumerate(plain) if schema not in plain[:index]]
    return {**(distinct[0] if len(distinct) == 1 else {"anyOf": distinct}), "description": description}
