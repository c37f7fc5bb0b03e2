"""prune: removes heads, FFN neurons and layers, and tokens and positions that the task does not need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebert.core.store import Artifact
from edgebert.stages.base import ModelFacts, RunContext
from edgebert.stages.prune.settings import Goal, PruneSettings


class Prune(PruneSettings):
    """Removes the parts that the task needs least, and repairs the rest by least squares, without training.

    The importance of a head or a neuron is the Fisher information of its mask on the examples. The sizes of all layers are
    chosen together, under a budget of multiply-accumulates or of latency measured on the target. With `steps` it prunes a
    little, distils, and prunes again.

    Sample:

        - prune: {to: {macs: 0.2}}
        - prune: {to: {speedup: 3}, steps: 2, recover: {epochs: 0.5}}
        - prune: {sizes: {layers: [0, 2, 4], heads: 6, intermediate_sizes: [768, 512, 512]}}
        - prune: {vocabulary: {min_count: 2}, positions: 128}
    """

    @classmethod
    def example(cls) -> Prune:
        """Half of the multiply-accumulates."""
        return cls(to=Goal(macs=0.5), block=8)

    def faults(self, model: ModelFacts) -> list[str]:
        """Messages about settings that do not fit the model."""
        from edgebert.stages.prune.faults import faults

        return faults(self, model)

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes a Transformers folder of the type `edgebert_pruned_bert`."""
        from edgebert.stages.prune.run import run

        return run(self, source, context)
