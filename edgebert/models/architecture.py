"""The config that Transformers builds a model from: what config.json says of the model, and not how a call should behave.

`return_dict`, `chunk_size_feed_forward`, `output_attentions`, `torchscript` and their like change what a call returns or how it
is computed, never the answers; edgebert sets what its exports and trainings need, by leaving such keys at their defaults. A key
that the family's config does not declare is left out as well: Transformers would set any attribute that a file names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgebert.models.families import family_of_config
from edgebert.models.json_file import read_json

BEHAVIOUR = frozenset(
    {
        "return_dict",
        "chunk_size_feed_forward",
        "output_hidden_states",
        "dtype",
        "use_cache",
        "is_encoder_decoder",
        "transformers_version",
    }
)
"""Declared keys that do not say what the model is."""
UNDECLARED = frozenset({"num_labels", "tokenizer_class"})
"""Keys that are read although no config declares them."""


def architecture_config(folder: Path, labels: Sequence[str] | None = None) -> Any:
    """The config of a folder's model.

    Args:
        labels: labels of a new head, which take the place of the folder's.

    Raises:
        SourceError: config.json cannot be read.
        Exception: Transformers refuses a value; it has several classes for that.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    import edgebert.models.pruned  # noqa: F401 - registers the pruned configs

    content = read_json(folder / "config.json")
    declared = {field.name for field in dataclasses.fields(CONFIG_MAPPING[content["model_type"]])}
    own = set(family_of_config(content).undeclared)
    kept = {name: value for name, value in content.items() if name in (declared | UNDECLARED | own) - BEHAVIOUR}
    if labels is not None or kept.get("id2label") or kept.get("num_labels") is None:
        kept.pop("num_labels", None)
    if labels is not None:
        kept.pop("problem_type", None)
        kept |= {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
    return AutoConfig.for_model(content["model_type"], **kept)
