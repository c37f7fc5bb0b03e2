"""finetune: makes the FP32 teacher from a model that has no head for the task yet, or trains one further."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgebert.core.store import Artifact
from edgebert.stages.base import RunContext, Stage
from edgebert.stages.examples import Examples


class Finetune(Stage):
    """Trains all weights and a head on `data.train` (AdamW, linear warm-up and decay, batches of like length).

    Sample:

        - finetune: {epochs: 3, learning_rate: 5.0e-5}
    """

    stage: Literal["finetune"] = "finetune"
    epochs: float = Field(3.0, gt=0, le=1000, description="Passes over data.train; may be a fraction.")
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(5e-5, gt=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    warmup_share: float = Field(0.1, ge=0, lt=1, description="Share of the steps over which the rate rises.")
    checkpoint_seconds: float = Field(60.0, gt=0, description="How much work a kill can cost at most.")

    version: ClassVar[int] = 2
    accepts: ClassVar[str] = "transformers"
    produces: ClassVar[str] = "transformers"
    needs: ClassVar[frozenset[str]] = frozenset({"train"})
    makes_teacher: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate", "safetensors", "optimum")

    def parameters(self) -> dict[str, Any]:
        """How often it is saved does not change what comes out."""
        return {name: value for name, value in super().parameters().items() if name != "checkpoint_seconds"}

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes a Transformers folder with the same tokenizer."""
        from accelerate.utils import set_seed

        from edgebert.models.load import copy_tokenizer, load_model, save_model
        from edgebert.stages.training import Schedule, train

        examples = Examples((context.data["train"],), context.serving(source))
        set_seed(context.seed)  # a new head is drawn from it
        model = load_model(source.path, context.task, context.labels)
        schedule = Schedule(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            warmup_share=self.warmup_share,
            seed=context.seed,
            checkpoint_seconds=self.checkpoint_seconds,
        )

        def loss_of(module: Any, indices: list[int]) -> Any:
            device = next(module.parameters()).device
            return module(**{name: value.to(device) for name, value in examples.batch(indices).items()}).loss

        facts = train(
            model,
            lengths=examples.lengths,
            loss_of=loss_of,
            schedule=schedule,
            work=context.work,
            progress=context.progress,
            title="finetune",
        )
        save_model(model, context.out)
        copy_tokenizer(source.path, context.out)
        return facts
