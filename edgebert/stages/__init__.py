"""The stages of a recipe. To add one: a file here, a line in STAGES, a test file; the contract tests find it."""

from __future__ import annotations

from edgebert.stages.base import Stage
from edgebert.stages.distill import Distill
from edgebert.stages.export import Export
from edgebert.stages.finetune import Finetune
from edgebert.stages.prune import Prune
from edgebert.stages.quantize import Quantize

STAGES: tuple[type[Stage], ...] = (Finetune, Prune, Distill, Export, Quantize)
