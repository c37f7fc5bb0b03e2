"""The families of encoders. Adding one: a file here that describes it, a line in FAMILIES; the tests of families find it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebert.models.families.albert import ALBERT
from edgebert.models.families.base import Family
from edgebert.models.families.bert import BERT
from edgebert.models.families.camembert import CAMEMBERT
from edgebert.models.families.deberta_v2 import DEBERTA_V2
from edgebert.models.families.distilbert import DISTILBERT
from edgebert.models.families.electra import ELECTRA
from edgebert.models.families.gte import GTE
from edgebert.models.families.mobilebert import MOBILEBERT
from edgebert.models.families.modernbert import MODERNBERT
from edgebert.models.families.mpnet import MPNET
from edgebert.models.families.nomic_bert import NOMIC_BERT
from edgebert.models.families.roberta import ROBERTA
from edgebert.models.families.squeezebert import SQUEEZEBERT
from edgebert.models.families.xlm_roberta import XLM_ROBERTA

FAMILIES: tuple[Family, ...] = (
    BERT,
    DISTILBERT,
    ROBERTA,
    XLM_ROBERTA,
    CAMEMBERT,
    ELECTRA,
    MPNET,
    ALBERT,
    MOBILEBERT,
    SQUEEZEBERT,
    DEBERTA_V2,
    MODERNBERT,
    NOMIC_BERT,
    GTE,
)

TOKENIZER_FILES = tuple(dict.fromkeys(name for family in FAMILIES for name in family.tokenizer_files))
"""Every file that a tokenizer may have."""


def find_family(model_type: Any) -> Family | None:
    """The family that a plain or pruned `model_type` belongs to; None for other types."""
    return next((family for family in FAMILIES if model_type in (family.model_type, family.pruned_type)), None)


def family_of_config(config: Mapping[str, Any]) -> Family:
    """The family of a config.json; BERT where it names no type, as in reports and tests of sizes alone.

    Raises:
        ValueError: the type is of no family.
    """
    found = find_family(config.get("model_type", BERT.model_type))
    if found is None:
        raise ValueError(f"{config['model_type']!r} is of no known family")
    return found
