"""distill: trains a small model to answer as its teacher does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from edgebert.core.store import Artifact
from edgebert.stages.base import ModelFacts, RunContext, Stage
from edgebert.stages.distill.settings import ASSISTANT, OWN_TEACHERS, TEACHER, Objective, QuantizationAware
from edgebert.stages.distill.student import Student
from edgebert.stages.distill.students import student_faults
from edgebert.stages.examples import Examples
from edgebert.tasks.base import Task


def _or_one(schema: dict[str, Any]) -> None:
    """Lets a JSON schema's list be written as its only entry, too."""
    several = {name: schema.pop(name) for name in ("type", "items", "minItems")}
    schema["anyOf"] = [several["items"], several]


class Distill(Objective, Stage):
    """Trains all weights on the outputs of a teacher: soft labels, hidden states, and the relations inside attention.

    The teacher is the FP32 model that candidates are judged against; it runs once over `data.train` and `data.transfer` (rows
    without labels), and its outputs are kept in the store. With several teachers the soft labels are the mean of their
    logits; hidden states and relations come from the first.

    The student is the model as the stages before left it, or one that `student` describes, of another width, family and
    tokenizer. Where its tokenizer is another, hidden states are compared as one vector a text (of the first token, or the mean,
    as the head reads them) through a learned matrix, and the tags of words at the first token of each word.

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

    student: Student | None = Field(
        None,
        description="Build the student: `{layers: 6, hidden: 384}` of the model as it is, or `{folder: PATH}` of another one, "
        "which brings its tokenizer. By default the model as the stages before left it.",
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
        """Its fields but `checkpoint_seconds`, which does not change the result. Without `quantization_aware` and `student`,
        keys are those of releases that did not have them."""
        newer = {name for name in ("quantization_aware", "student") if getattr(self, name) is None}
        left_out = {"checkpoint_seconds", *newer}
        return {name: value for name, value in super().parameters().items() if name not in left_out}

    def needed(self) -> frozenset[str]:
        """Adds `train` where true labels are learned from."""
        return self.needs | ({"train"} if self.hard else frozenset())

    def models(self) -> tuple[str, ...]:
        """The teachers that the recipe does not make, and the model that the student is built from."""
        return tuple(dict.fromkeys([*(name for name in self.teachers if name not in OWN_TEACHERS), *self.starts()]))

    def starts(self) -> tuple[str, ...]:
        """The model that the student is built from, unless it teaches as well."""
        folder = self.student.folder if self.student else None
        return (folder,) if folder and folder not in self.teachers else ()

    def after(self, model: ModelFacts) -> ModelFacts:
        """Those of the student."""
        if self.student is None:
            return model
        folder = self.student.folder
        config, tokenizer = self._student_config(model), None if folder else model.tokenizer
        return replace(model, config=config, tokenizer=tokenizer, other_tokenizer=model.other_tokenizer or folder is not None)

    def _student_config(self, model: ModelFacts) -> Mapping[str, Any]:
        """config.json of the student, with sizes under BERT's names."""
        if self.student is None:
            return model.config
        return self.student.config(model.others.get(self.student.folder or "", model.config))

    def faults(self, model: ModelFacts) -> list[str]:
        """Messages about teachers and layers that do not fit the model."""
        if self.student and (faults := student_faults(self.student, self.relations, model)):
            return faults
        if model.other_tokenizer and (fault := self.token_fault(model.task)):
            return [fault]
        first = self.teachers[0]
        teacher = model.others.get(first, model.config)
        faults = []
        if self.hard and model.task is not None and model.task.in_pairs:
            faults.append(
                f"`hard` learns from pairs, and {model.task.name} is distilled text by text; put `- finetune` before it"
            )
        if ASSISTANT in self.teachers and "distill" not in model.before[:-1]:
            faults.append(
                "teachers names `assistant`, but no earlier stage distils one; put `- distill` before the prune stage whose "
                "result this one trains"
            )
        return faults + self.objective_faults(
            student=self._student_config(model),
            teacher=teacher,
            name=f"the teacher {first}" if first in model.others else "its teacher",
        )

    def token_fault(self, task: Task | None) -> str | None:
        """Why a student with another tokenizer than its teacher's cannot learn with these settings once it is a model of its
        own; None where it can."""
        why = "the student has another tokenizer than its teacher"
        if task is not None and task.of_tokens:
            return f"{why}, and {task.name} is learned token by token; drop this stage"
        return f"{why}, whose tokens are others: set hidden: 0 and relations: 0" if self.hidden or self.relations else None

    def run(self, source: Artifact, context: RunContext) -> Mapping[str, Any]:
        """Writes a Transformers folder of the student's shape, with the student's tokenizer."""
        from edgebert.models.load import copy_tokenizer, load_model, save_model
        from edgebert.stages.distill.augmentation import augmented
        from edgebert.stages.distill.learn import learn
        from edgebert.stages.distill.losses import pairing
        from edgebert.stages.distill.students import built, differ
        from edgebert.stages.distill.teachers import find, open_teachers

        start = context.models[self.student.folder] if self.student and self.student.folder else source
        student = load_model(source.path, context.task) if self.student is None else built(self.student, start, source, context)
        examples = augmented(Examples(context.examples(source).sets, context.serving(start)), self, context)
        apart = start is not source and differ(start, find(self.teachers[0], source, context), self.relations, context)
        teachers = open_teachers(self.teachers, student, source, context, examples, self, pooled=apart)
        narrowed = self.student is not None and self.student.narrowed
        settings = self.model_copy(update={"train_embeddings": True}) if narrowed else self
        facts = learn(
            student,
            teachers,
            pairing(self, student, teachers[0].model, pooled=apart),
            examples,
            settings,
            seed=context.seed,
            work=context.work,
            progress=context.progress,
            title="distill",
            quantization_aware=self.quantization_aware,
            by_words=apart,
        )
        save_model(student, context.out)
        copy_tokenizer(start.path, context.out)
        return facts
