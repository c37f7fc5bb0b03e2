"""bert_config.json of Google's BERT as a config.json, and whether a vocabulary tells letters' cases apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgebert.errors import SourceError
from edgebert.models.json_file import LIMIT

GOOGLE_CONFIG = "bert_config.json"
CLASSIFIER = "classifier.weight"


def google_config(content: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The content of config.json.

    Args:
        content: of bert_config.json.
        shapes: name in PyTorch -> shape of every tensor, which say what head there is.
    """
    labels = shapes.get(CLASSIFIER, ())
    head = (
        "ForSequenceClassification" if labels else "ForQuestionAnswering" if "qa_outputs.weight" in shapes else "ForPreTraining"
    )
    return {
        **content,
        "model_type": "bert",
        "architectures": [f"Bert{head}"],
        **({"num_labels": labels[0]} if labels else {}),
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }


def is_cased(vocabulary: Path) -> bool:
    """Whether a vocabulary has tokens with capitals, besides those in brackets. Google's checkpoints say it in no file.

    Raises:
        SourceError: there is no vocab.txt, or none that can be read.
    """
    try:
        if vocabulary.stat().st_size > LIMIT:
            raise ValueError
        tokens = vocabulary.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise SourceError(f"{vocabulary} is missing, or is no list of tokens.", hint="Fetch it with the checkpoint.") from error
    return any(token != token.lower() for token in tokens if not token.startswith("["))
