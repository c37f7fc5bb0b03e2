"""distill: trains a small model to answer as its teacher does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from edgebert.core.store import Artifact
from edgebert.stages.base import ModelFacts, RunContext, Stage
from edgebert.stages.distill.settings import ASSISTANT, OWN_TEACHERS, TEACHER, Objective, QuantizationAware


def _or_one(schema: dict[str, Any]) -> None:
    """Lets a JSON schema's list be written as its only entry, too."""
    several = {name: schema.pop(name) for name in ("type", "items", "minItems")}
    schema["anyOf"] = [several["items"], several]


class Distill(Objective, Stage):
    """Trains all weights on the outputs of a teacher: soft labels, hidden states, and the relations inside attention.

    The teacher is the FP32 model that candidates are judged against; it runs once over `data.train` and `data.transfer` (rows
    without labels), and its outputs are kept in the store. With several teachers the soft labels are the mean of their
    logits; hidden states and relations come from the first.

    Sample:

        - distill: {epochs: 3, learning_rate: 3.0e-4, temperature: 2}
    """

    stage: Literal["distill"] = "distill"
    teachers: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (TEACHER,),
        min_length=1,
        json_schema_extra=_or_one,
        description="`teacher`, `assistant` (what the distill stage before made, a model between teacher and student), or "
        "other models, named as in `model`, fine-tuned for the task with the same labels.",
    )

    quantization_aware: QuantizationAware | None = Field(
        None,
        description="Round weights and activations during training as this method of the quantize stage will, so that the "
        "weights learn to tolerate it. The result is FP32 all the same.",
    )

    version: ClassVar[int] = 2
    accepts: ClassVar[str] = "transformers"
    produces: ClassVar[str] = "transformers"
    needs: ClassVar[frozenset[str]] = frozenset({"examples", "head", "teacher"})
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate", "safetensors", "optimum")

    @field_validator("teachers", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    def parameters(self) -> dict[str, Any]:
        """Its fields but `checkpoint_seconds`, which does not change the result. Without `quantization_aware`, keys are those
        of releases that did not have it."""
        left_out = {"checkpoint_seconds"} if self.quantization_aware else {"checkpoint_seconds", "quantization_aware"}
        return {name: value for name, value in super().parameters().items() if name not in left_out}

    def needed(self) -> frozenset[str]:
        """Adds `train` where true labels are learned from."""
        return self.needs | ({"train"} if self.hard else frozenset())

    def models(self) -> tuple[str, ...]:
        """The teachers that the recipe does not make."""
        return tuple(name for name in self.teachers if name not in OWN_TEACHERS)

    def faults(self, model: ModelFacts) -> list[str]:
        """Messages about teachers and layers that do not fit the model."""
        first = self.teachers[0]
        teacher = model.others.get(first, model.config)
        faults = []
        if ASSISTANT in self.teachers and "distill" not in model.before[:-1]:
            faults.append(
                "teachers names `assistant`, but no earlier stage distils one; put `- distill` before the prune stage whose "
                "result this one trains"
            )
        return faults + self.objective_faults(
            student=model.config,
            teacher=teacher,
            name=f"the teacher {first}" if first in model.others else "its teacher",
        )

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes a Transformers folder of the same shape."""
        from edgebert.models.load import copy_tokenizer, load_model, save_model
        from edgebert.stages.distill.augmentation import augmented
        from edgebert.stages.distill.learn import learn
        from edgebert.stages.distill.losses import pairing
        from edgebert.stages.distill.teachers import open_teachers

        student = load_model(source.path, context.task)
        examples = augmented(context.examples(source), self, context)
        teachers = open_teachers(self.teachers, student, source, context, examples, self)
        facts = learn(
            student,
            teachers,
            pairing(self, student, teachers[0].model),
            examples,
            self,
            seed=context.seed,
            work=context.work,
            progress=context.progress,
            title="distill",
            quantization_aware=self.quantization_aware,
        )
        save_model(student, context.out)
        copy_tokenizer(source.path, context.out)
        return facts
