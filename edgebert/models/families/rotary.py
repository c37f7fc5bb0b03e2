"""Rotary positions (Su et al. 2021, arXiv 2104.09864) in a config.json: which of them edgebert follows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from edgebert.models.families.base import Ability

NO_TABLE: Mapping[Ability, str] = {
    "positions": "they are rotations, and have no table",
    "times": "only layers like BERT's are timed",
}
"""What no family of rotary positions allows."""
KEYS = ("rope_theta", "rope_scaling")
"""Keys beside `rope_parameters` that older files have, and that Transformers still reads."""
THETAS = ("rope_theta", "global_rope_theta", "local_rope_theta")


def rotary_fault(config: Mapping[str, Any], *, hidden_size: int, heads: int) -> str | None:
    """What of the rotations edgebert does not follow, in words; None where it follows them.

    Rotations that are stretched by the length of a text, or by a rule of another name, are not among those that it exports.
    """
    if (hidden_size // heads) % 2:
        return f"a head has the size {hidden_size // heads}, and rotary positions need an even one"
    if config.get("rope_scaling"):
        return "rope_scaling stretches the positions, which edgebert does not follow"
    numbers = [(name, config[name]) for name in THETAS if config.get(name) is not None]
    try:
        numbers += [(name, value) for part in _parts(config.get("rope_parameters")) for name, value in part.items()]
    except TypeError:
        return "rope_parameters is not a table of names and values"
    for name, value in numbers:
        if name in ("rope_type", "type"):
            if value != "default":
                return f"rope_parameters has the {name} {str(value)[:40]!r}, and edgebert follows 'default' alone"
        elif name not in THETAS:
            return f"rope_parameters has {name[:40]}, which edgebert does not follow"
        elif type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
            return f"{name} is {str(value)[:40]}; it has to be a number above 0"
    return None


def _parts(parameters: Any) -> Iterator[dict[str, Any]]:
    """The tables of `rope_parameters`: itself, or one for each type of layer.

    Raises:
        TypeError: it is none.
    """
    if parameters is None:
        return
    if not isinstance(parameters, dict):
        raise TypeError
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    if nested and len(nested) < len(parameters):
        raise TypeError
    yield from nested or [parameters]
