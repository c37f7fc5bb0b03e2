"""`edgebert schema`: prints the JSON Schema of a recipe."""

from __future__ import annotations

from edgebert.cli.common import print_json


def schema() -> None:
    """Prints the JSON Schema of a recipe, for editors."""
    from edgebert.compress.recipe import json_schema

    print_json(json_schema())
