"""Settings of distillation, for the distill stage and for the recovery between the steps of a prune stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from edgebert.core.strict import Strict
from edgebert.models.families import family_of_config, find_family
from edgebert.models.families.base import Ability

LayerMap = Literal["last", "kept", "uniform"]
QuantizationAware = Literal["dynamic"]
"""Quantisation methods whose rounding can be part of the training."""
TEACHER, ASSISTANT = OWN_TEACHERS = ("teacher", "assistant")
"""Names of teachers that a run makes itself: the FP32 model that candidates are judged against, and the model made by an
earlier distill stage."""


class EarlyStop(Strict):
    """Stops when the loss on held-out training examples stops falling, and keeps the best weights."""

    share: float = Field(0.02, gt=0, lt=1, description="Share of the examples to hold out, drawn by the seed.")
    every: float = Field(0.25, gt=0, description="Epochs between two evaluations of the held-out loss.")
    patience: int = Field(3, ge=1, description="Evaluations without a new lowest loss before it stops.")


class Objective(Strict):
    """Losses and optimiser of distillation. Every loss has a weight; 0 leaves it out."""

    epochs: float = Field(3.0, gt=0, le=1000, description="Passes over the examples; may be a fraction.")
    augment: int = Field(
        0,
        ge=0,
        le=100,
        description="Number of rows made up from each row for the teacher to label: another row is appended, a tenth of the "
        "words left out.",
    )
    batch_size: int = Field(32, ge=1, description="Rows in one batch. Fewer take less memory; see `accumulate`.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients are added up for one step.")
    learning_rate: float = Field(3e-4, gt=0, lt=1, description="Highest learning rate, at the end of the warm-up.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay (AdamW).")
    warmup_share: float = Field(0.05, ge=0, lt=1, description="Share of the steps over which the learning rate rises.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Precision of forward passes, the teacher's too.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout of the student during training; a pruned student rarely overfits."
    )
    train_embeddings: bool = Field(
        False, description="Train the token embeddings too: most of a small BERT's weights, which hardly change."
    )
    soft: float = Field(1.0, ge=0, description="Weight of the teacher's logits (KL at `temperature`).")
    temperature: float = Field(
        2.0, gt=0, le=100, description="Divides the logits of both before `soft` compares them: higher is softer."
    )
    hard: float = Field(0.0, ge=0, description="Weight of the true labels (cross-entropy).")
    hidden: float = Field(1.0, ge=0, description="Weight of the hidden states (mean squared error) of the mapped layers.")
    hidden_map: Literal["auto", "learned", "none"] = Field(
        "auto",
        description="Whether a learned matrix maps hidden states to the teacher's width; auto: where the widths differ.",
    )
    relations: float = Field(0.0, ge=0, description="Weight of the relations among queries, keys and values (MiniLMv2).")
    relation_heads: int = Field(4, ge=1, description="Heads that relations are split into; must divide the size of a head.")
    layer_map: LayerMap | tuple[tuple[int, int], ...] = Field(
        "last",
        description="Which layer of the student learns from which of the teacher: the last from the last (last), each from the "
        "one that it was cut from (kept), evenly spread (uniform), or pairs [student, teacher], counted from 1.",
    )
    early_stopping: EarlyStop | None = Field(
        None, description="End when the score on held-out rows no longer rises. By default after `epochs`."
    )
    cache_gb: float = Field(
        4.0,
        ge=0,
        description="Disk space in GB for the teacher's outputs (float16); outputs beyond it are recomputed when needed.",
    )
    checkpoint_seconds: float = Field(
        60.0, gt=0, description="Seconds between checkpoints: the most work that a kill can cost."
    )

    @field_validator("layer_map", mode="before")
    @classmethod
    def _pairs_as_tuples(cls, value: Any) -> Any:
        return tuple(tuple(pair) if isinstance(pair, list) else pair for pair in value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _learns_something(self) -> Objective:
        if not (self.soft or self.hard or self.hidden or self.relations):
            raise ValueError("learns nothing: give soft, hard, hidden or relations a weight above 0")
        if isinstance(self.layer_map, tuple) and (not self.layer_map or min(min(pair) for pair in self.layer_map) < 1):
            raise ValueError("layer_map needs pairs [student, teacher] of layers, counted from 1")
        return self

    def objective_faults(self, *, student: Mapping[str, Any], teacher: Mapping[str, Any], name: str) -> list[str]:
        """Messages about settings that cannot work with a teacher; checked before any work.

        Args:
            student: config.json of the student, which can only lose layers.
            teacher: the teacher's config.json.
            name: the teacher's name in messages.
        """
        if faults := self._family_faults(student, teacher):
            return faults
        layers, hidden_size = int(student["num_hidden_layers"]), int(student["hidden_size"])
        teacher_layers, teacher_size = int(teacher["num_hidden_layers"]), int(teacher["hidden_size"])
        if self.hidden and self.hidden_map == "none" and hidden_size != teacher_size:
            relation = "wider" if hidden_size > teacher_size else "narrower"
            faults.append(
                f"the student is {relation} ({hidden_size}) than {name} ({teacher_size}), "
                "and `hidden_map: none` puts no map between"
            )
        if isinstance(self.layer_map, tuple) and (self.hidden or self.relations):
            faults += [
                f"layer_map names layer {pair[side]} of {who}, which has {depth}"
                for pair in self.layer_map
                for side, who, depth in ((0, "the student", layers), (1, name, teacher_layers))
                if pair[side] > depth
            ]
        head_size, teacher_head_size = _head_size(student), _head_size(teacher)
        if self.relations and (head_size % self.relation_heads or teacher_head_size % self.relation_heads):
            faults.append(
                f"relation_heads is {self.relation_heads}, which does not divide heads of {head_size} and {teacher_head_size}"
            )
        return faults

    def _family_faults(self, student: Mapping[str, Any], teacher: Mapping[str, Any]) -> list[str]:
        """Losses that compare what a family of encoders does not have."""
        families = dict.fromkeys([family_of_config(student).model_type, family_of_config(teacher).model_type])
        asked: list[tuple[Ability, float]] = [("hidden", self.hidden), ("relations", self.relations)]
        found = [(part, find_family(name)) for part, weight in asked if weight for name in families]
        return [
            f"`{part}` cannot be learned with {family.title}, because {family.lacks[part]}; write `{part}: 0`"
            for part, family in found
            if family and part in family.lacks
        ]


def _head_size(config: Mapping[str, Any]) -> int:
    return int(config.get("attention_head_size") or int(config["hidden_size"]) // int(config["num_attention_heads"]))
