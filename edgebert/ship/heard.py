"""What a device said, before it is believed or printed. It may be broken, or not ours any more."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edgebert.errors import DeviceError

Answer = TypeVar("Answer", bound=BaseModel)


def parse(answer: type[Answer], value: dict[str, Any], device: str) -> Answer:
    """The value of a result as what it should be.

    Raises:
        DeviceError: it is something else.
    """
    try:
        return answer.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DeviceError(
            f"{device} answered what is no {answer.__name__}: {where}: {first['msg']}.",
            hint="Bring both to one version of edgebert with: edgebert devices setup",
        ) from error
