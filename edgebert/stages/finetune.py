"""finetune: trains the FP32 teacher, from a model without a head for the task or from one that has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgebert.core.store import Artifact
from edgebert.stages.base import RunContext, Stage
from edgebert.stages.examples import Examples


class Finetune(Stage):
    """Trains all weights and a head on `data.train` (AdamW, linear warm-up and decay, batches of similar length).

    Sample:

        - finetune: {epochs: 3, learning_rate: 5.0e-5}
    """

    stage: Literal["finetune"] = "finetune"
    epochs: float = Field(3.0, gt=0, le=1000, description="Passes over data.train; may be a fraction.")
    batch_size: int = Field(16, ge=1, description="Rows in one step. Fewer take less memory.")
    learning_rate: float = Field(5e-5, gt=0, lt=1, description="Highest learning rate, at the end of the warm-up.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay (AdamW).")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="Share of the steps over which the learning rate rises.")
    checkpoint_seconds: float = Field(
        60.0, gt=0, description="Seconds between checkpoints: the most work that a kill can cost."
    )

    version: ClassVar[int] = 2
    accepts: ClassVar[str] = "transformers"
    produces: ClassVar[str] = "transformers"
    needs: ClassVar[frozenset[str]] = frozenset({"train"})
    makes_teacher: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate", "safetensors", "optimum")

    def parameters(self) -> dict[str, Any]:
        """Its fields but `checkpoint_seconds`, which does not change the result."""
        return {name: value for name, value in super().parameters().items() if name != "checkpoint_seconds"}

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes a Transformers folder with the same tokenizer."""
        from accelerate.utils import set_seed

        from edgebert.models.load import copy_tokenizer, load_model, run_model, save_model
        from edgebert.stages.training import Schedule, train

        examples = Examples((context.data["train"],), context.serving(source))
        set_seed(context.seed)  # draws the weights of a new head
        model = load_model(source.path, context.task, context.labels)

        together = examples.of_rows if context.task.in_pairs else [[index] for index in range(len(examples))]

        def loss_of(module: Any, indices: list[int]) -> Any:
            device = next(module.parameters()).device
            drawn = [index for row in indices for index in together[row]]
            batch = {name: value.to(device) for name, value in examples.batch(drawn).items()}
            return context.task.loss(context.task.combined(run_model(module, batch)), batch["labels"])

        facts = train(
            model,
            lengths=[max(examples.lengths[index] for index in row) for row in together],
            loss_of=loss_of,
            schedule=Schedule.of(self, context.seed),
            work=context.work,
            progress=context.progress,
            title="finetune",
        )
        save_model(model, context.out)
        copy_tokenizer(source.path, context.out)
        return facts
