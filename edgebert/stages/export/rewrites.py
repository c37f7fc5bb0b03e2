"""The names of the graph rewrites of `edgebert.stages.export.serving_form`, which says what each does. No torch."""

from __future__ import annotations

from typing import Literal

Rewrite = Literal["mask", "scale", "qkv", "first_token", "attention"]
REWRITES: tuple[Rewrite, ...] = ("mask", "scale", "qkv", "first_token", "attention")
FOR_ONNXRUNTIME_ALONE: tuple[Rewrite, ...] = ("attention",)
