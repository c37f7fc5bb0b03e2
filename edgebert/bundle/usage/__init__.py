"""usage: how other clients run a bundle as it was measured, as code for the model card that works when pasted.

Each client is one template. It says what the measurement had and the client would not do by itself: the longest input, padding,
threads, graph optimisers that were off, OpenVINO's precision, folder and file of the graph.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgebert.bundle.manifest import ManifestEntry
from edgebert.runtimes.onnxruntime import session_entries
from edgebert.runtimes.serving import Serving
from edgebert.tasks.base import Row
from edgebert.tasks.embedding_options import EmbeddingOptions

OFF = "optimization.disable_specified_optimizers"
"""Entry of an ONNX Runtime session that names optimisers to leave out, for clients without an argument for that."""


@dataclass(frozen=True)
class Client:
    """A program that opens bundles, and the template of the code that it needs."""

    title: str
    install: str
    """Command that installs it."""
    template: str
    runtime: str
    """Runtime whose graphs it opens."""
    language: str = "python"
    tasks: tuple[str, ...] = ("text-classification", "token-classification")
    """Tasks that it knows."""
    pairs: bool = True
    """Whether it takes two texts."""


CLIENTS = (
    Client(
        "ONNX Runtime",
        "pip install onnxruntime tokenizers",
        "onnxruntime.py",
        "onnxruntime",
        tasks=("text-classification", "token-classification", "embedding"),
    ),
    Client("optimum-onnx", 'pip install "optimum-onnx[onnxruntime]"', "optimum_onnx.py", "onnxruntime"),
    Client(
        "sentence-transformers",
        'pip install "sentence-transformers[onnx]"',
        "sentence_transformers.py",
        "onnxruntime",
        tasks=("text-classification",),
    ),
    Client(
        "sentence-transformers",
        'pip install "sentence-transformers[onnx]"',
        "cross_encoder.py",
        "onnxruntime",
        tasks=("reranking",),
    ),
    Client("Transformers.js", "npm install @huggingface/transformers", "transformers_js.mjs", "onnxruntime", "js", pairs=False),
    Client("OpenVINO", "pip install openvino tokenizers", "openvino.py", "openvino"),
    Client("optimum-intel", 'pip install "optimum-intel[openvino]"', "optimum_intel.py", "openvino"),
)


@dataclass(frozen=True)
class Snippet:
    """Code for a client, which defines `classify` (`rank`, `embed`) and asks it one text."""

    client: Client
    variant: ManifestEntry
    code: str


def snippets(
    serving: Serving, variants: Sequence[ManifestEntry], selected: str, row: Row, render: Callable[..., str]
) -> list[Snippet]:
    """A snippet for each client that can open one of the variants: the selected one, or the best of the client's runtime.

    Args:
        selected: name of the variant that the verdict selected.
        row: the texts that are asked.
        render: fills the template of a name with values: `render(name, **values)`.
    """
    found = []
    for client in CLIENTS:
        variant = _best(variants, client.runtime, selected)
        if variant is not None and serving.task.name in client.tasks and (client.pairs or len(row) == 1):
            code = render(f"{client.template}.j2", **_values(serving, variant, row))
            found.append(Snippet(client, variant, code.strip()))
    return found


def _best(variants: Sequence[ManifestEntry], runtime: str, selected: str) -> ManifestEntry | None:
    """The selected variant where it is the runtime's, else a candidate that passed, else FP32."""
    own = [variant for variant in variants if variant.target.runtime == runtime]
    order = [one for one in own if one.name == selected] + [one for one in own if one.status == "PASSED"] + own
    return next(iter(order), None)


def _values(serving: Serving, variant: ManifestEntry, row: Row) -> Mapping[str, Any]:
    """What templates are filled with."""
    target, path = variant.target, PurePosixPath(variant.file)
    options = target.options.model_dump()
    embeds = serving.task.options if isinstance(serving.task.options, EmbeddingOptions) else None
    disabled, entries = list(options.get("disabled_optimizers", ())), session_entries(target)
    return {
        "file": variant.file,
        "folder": path.parent.as_posix(),
        "base": path.name,
        "stem": path.stem,
        "quantised": path.name == "model_quantized.onnx",
        "task": serving.task.name,
        "architecture": serving.task.architecture,
        "of_tokens": serving.task.of_tokens,
        "output": serving.task.outputs[0].name,
        "max_length": serving.max_length,
        "embeds": embeds,
        "before": json.dumps(embeds.before_texts() if embeds else "", ensure_ascii=False),
        "left": _cuts_left(serving.tokenizer),
        "texts": [json.dumps(text, ensure_ascii=False) for text in row.values()],
        "pad_id": serving.pad_id,
        "padding": _padding(serving, variant),
        "threads": target.threads,
        "disabled": disabled,
        "arena": options.get("arena", True),
        "entries": entries,
        "extra": entries | ({OFF: ";".join(disabled)} if disabled else {}),
        "precision": options.get("precision", "f32"),
    }


def _cuts_left(tokenizer: Path) -> bool:
    truncation = json.loads(tokenizer.read_text(encoding="utf-8")).get("truncation") or {}
    return str(truncation.get("direction")).lower() == "left"


def _padding(serving: Serving, variant: ManifestEntry) -> dict[str, int]:
    """Lengths that texts were padded to: `length`, or `pad_to_multiple_of`; empty for none."""
    if variant.target.padding == "max_length":
        return {"length": serving.max_length}
    return {"pad_to_multiple_of": variant.target.bucket} if variant.target.bucket > 1 else {}
