"""The student that a recipe describes: another model's weights, cut to fewer layers and to a smaller width.

What is kept is spread evenly over what there is: layers, heads, places in a head, FFN neurons and places in the hidden states,
the latter the same everywhere, because all layers add to the same vector (weight selection, Xu et al. 2024, arXiv 2311.18823,
which found evenly spaced parts of a larger model to be a better start than drawn weights). Unlike the result of `prune` it is a
plain model of its family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from edgebert.core.strict import Strict
from edgebert.models.families import family_of_config
from edgebert.models.families.base import Family
from edgebert.models.families.paths import LayerPaths

if TYPE_CHECKING:
    import torch

SIZES = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
}
"""Field -> BERT's name of the size."""


class Student(Strict):
    """A student that is made for distillation."""

    folder: str | None = Field(
        None,
        min_length=1,
        description="The model whose weights and tokenizer it has, named as in `model`; it needs no head. By default the model "
        "as the stages before left it.",
    )
    layers: int | None = Field(None, ge=1, description="Layers, evenly spread over those of that model; by default all.")
    hidden: int | None = Field(None, ge=1, description="Width of the hidden states; by default that model's.")
    heads: int | None = Field(None, ge=1, description="Attention heads; by default as many as keep the size of a head.")
    intermediate: int | None = Field(None, ge=1, description="FFN neurons; by default in proportion to the width.")

    @model_validator(mode="after")
    def _says_something(self) -> Student:
        if not self.model_fields_set:
            raise ValueError("names neither a folder nor a size")
        return self

    @property
    def resized(self) -> bool:
        """Whether it is smaller than the model that it is built from."""
        return any(getattr(self, name) is not None for name in SIZES)

    @property
    def narrowed(self) -> bool:
        """Whether its hidden states have another width than those of the model that it is built from."""
        return self.hidden is not None

    def sizes(self, config: Mapping[str, Any]) -> dict[str, int]:
        """BERT's name of each size -> the student's.

        Args:
            config: config.json of the model that it is built from, with the sizes under BERT's names.
        """
        width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        hidden = self.hidden or width
        return {
            "num_hidden_layers": self.layers or int(config["num_hidden_layers"]),
            "hidden_size": hidden,
            "num_attention_heads": self.heads or (heads if hidden == width else max(1, hidden * heads // width)),
            "intermediate_size": self.intermediate or max(1, round(int(config["intermediate_size"]) * hidden / width)),
        }

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The student's config.json, under BERT's names as well as its family's."""
        family, sizes = family_of_config(config), self.sizes(config)
        return {**config, **sizes, **{getattr(family.names, name): size for name, size in sizes.items()}}

    def _plain(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """`config` without what follows from sizes and from the layers that stay."""
        family = family_of_config(config)
        return {
            name: value for name, value in self.config(config).items() if name not in (*family.derived, *family.layer_lists)
        }

    def faults(self, config: Mapping[str, Any]) -> list[str]:
        """Why it cannot be built from a model; empty where it can.

        Args:
            config: as for `sizes`.
        """
        family = family_of_config(config)
        if not self.resized:
            return []
        if (reason := _obstacle(family, config)) is not None:
            return [f"a student of other sizes cannot be built from a {family.title}{reason}; name a plain BERT: `folder`"]
        sizes = self.sizes(config)
        faults = [
            f"student.{field} is {sizes[name]}, more than the {config[name]} of the model that it is built from"
            for field, name in SIZES.items()
            if sizes[name] > int(config[name])
        ]
        if sizes["hidden_size"] % sizes["num_attention_heads"]:
            faults.append(
                f"student.hidden is {sizes['hidden_size']}, no multiple of its {sizes['num_attention_heads']} heads "
                "(`student.heads`)"
            )
        elif (ours := _head_size(sizes)) > (theirs := _head_size(config)):
            faults.append(f"student.heads would have a size of {ours}, more than the {theirs} of the model's own heads")
        elif (fault := family.fault(self._plain(config))) is not None:
            faults.append(f"a student of these sizes cannot be built: {fault}")
        return faults


def _obstacle(family: Family, config: Mapping[str, Any]) -> str | None:
    """Why models of a family, or this one, cannot be cut to a smaller plain one; None where they can."""
    if config.get("model_type") == family.pruned_type:
        return " that was pruned already"
    if family.layer is None:
        return ", whose layers are not made of the parts that BERT's are made of"
    if family.layer.shared_bias or family.embedding.projection:
        return ", whose parts have sizes of their own beside the width"
    return None


def _head_size(sizes: Mapping[str, Any]) -> int:
    return int(sizes["hidden_size"]) // int(sizes["num_attention_heads"])


def spread(count: int, kept: int) -> list[int]:
    """Indices of `kept` of `count` things, evenly spread, the last among them."""
    return [round((index + 1) * count / kept) - 1 for index in range(kept)]


@dataclass(frozen=True)
class _Places:
    """What is kept of each axis: indices into the larger model's."""

    hidden: torch.Tensor
    columns: torch.Tensor
    """Places of the kept heads' values in the output of a projection."""
    neurons: torch.Tensor

    @classmethod
    def between(cls, config: Mapping[str, Any], sizes: Mapping[str, int]) -> _Places:
        import torch

        size, kept = _head_size(config), spread(_head_size(config), _head_size(sizes))
        heads = spread(int(config["num_attention_heads"]), sizes["num_attention_heads"])
        return cls(
            torch.tensor(spread(int(config["hidden_size"]), sizes["hidden_size"])),
            torch.tensor([head * size + place for head in heads for place in kept]),
            torch.tensor(spread(int(config["intermediate_size"]), sizes["intermediate_size"])),
        )

    def cut(self, paths: LayerPaths, module: str, value: torch.Tensor, wanted: torch.Size) -> torch.Tensor:
        """The kept part of a tensor, of the shape that the student has for it.

        Args:
            module: its module, below a layer; empty outside the layers.
        """
        import torch

        blocks = {**paths.head_rows, **paths.neuron_rows}  # a matrix may hold several with the same rows
        first = {**dict.fromkeys(paths.head_rows, self.columns), **dict.fromkeys(paths.neuron_rows, self.neurons)}
        second = {paths.attention_output: self.columns, paths.down: self.neurons}
        for axis, chosen in ((0, first.get(module, self.hidden)), (1, second.get(module, self.hidden))):
            if axis < value.ndim and value.shape[axis] != wanted[axis]:
                parts = value.chunk(1 if axis else blocks.get(module, 1), dim=axis)
                value = torch.cat([part.index_select(axis, chosen) for part in parts], dim=axis)
        return value


def build(student: Student, model: Any) -> Any:
    """A new model of the student's sizes, from a larger one's weights; the model itself where no size is given.

    Args:
        model: a plain model with any head, in evaluation mode; not edited.
    """
    import torch

    from edgebert.models.parts import family_of
    from edgebert.models.sentence_model import SentenceModel

    if not student.resized:
        return model
    if isinstance(model, SentenceModel):
        return model.around(build(student, model.encoder))
    family = family_of(model)
    assert family.layer is not None  # `faults` refuses others
    config = family.with_sizes(model.config.to_dict())
    sizes = student.sizes(config)
    changed: dict[str, Any] = {getattr(family.names, name): size for name, size in sizes.items()}
    layers = spread(int(config["num_hidden_layers"]), sizes["num_hidden_layers"])
    content = model.config.to_dict()
    changed |= {name: [content[name][index] for index in layers] for name in family.layer_lists}
    made = type(model.config).from_dict(
        {name: value for name, value in {**content, **changed}.items() if name not in family.derived}
    )
    made._attn_implementation = model.config._attn_implementation
    with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are all overwritten
        smaller = type(model)(made)
    smaller.load_state_dict(_weights(family, model, smaller, layers, _Places.between(config, sizes)), strict=True)
    return smaller.to(model.dtype).eval()


def _weights(family: Family, model: Any, smaller: Any, layers: list[int], places: _Places) -> dict[str, torch.Tensor]:
    """Name in the student -> tensor."""
    assert family.layer is not None
    start = f"{family.prefix}.{family.layers}." if hasattr(model, family.prefix) else f"{family.layers}."
    source, weights = model.state_dict(), {}
    for name, wanted in smaller.state_dict().items():
        number, _, inner = name.removeprefix(start).partition(".") if name.startswith(start) else ("", "", "")
        theirs = f"{start}{layers[int(number)]}.{inner}" if inner else name
        weights[name] = places.cut(family.layer, inner.rpartition(".")[0], source[theirs], wanted.shape)
    return weights
