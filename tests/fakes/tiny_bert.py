"""Tiny real BERTs, padded batches, and removal without surgery to compare with."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch.nn import functional
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)

from edgebert.core.packages import quiet_libraries
from edgebert.models.load import run_model
from edgebert.models.parts import encoder_of, family_of, parts_of
from edgebert.models.sizes import Shape
from edgebert.models.surgery import Kept, Units, shape_of

KINDS: dict[Any, Any] = {
    BertModel: AutoModel,
    BertForSequenceClassification: AutoModelForSequenceClassification,
    BertForTokenClassification: AutoModelForTokenClassification,
    BertForQuestionAnswering: AutoModelForQuestionAnswering,
    BertForMaskedLM: AutoModelForMaskedLM,
}
TOKENS, POSITIONS = 40, 32
Batch = dict[str, torch.Tensor]


def build(
    kind: Any = BertForSequenceClassification,
    *,
    layers: int = 2,
    heads: int = 4,
    head_size: int = 8,
    neurons: int = 24,
    seed: int = 0,
    init: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """A BERT with random weights, biases too, that are large enough for every part to matter.

    Args:
        init: arguments of the class beside the config.
    """
    config = BertConfig(
        **{
            "vocab_size": TOKENS,
            "hidden_size": heads * head_size,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": neurons,
            "max_position_embeddings": POSITIONS,
            "num_labels": 2 if kind is BertForQuestionAnswering else 3,
            **options,
        }
    )
    with torch.random.fork_rng(devices=[]), quiet_libraries():
        torch.manual_seed(seed)
        model = kind(config, **(init or {})).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "LayerNorm.weight" not in name:
                    torch.nn.init.normal_(parameter, std=0.4)
    return model


def batch_of(lengths: Sequence[int], *, seed: int = 0, padding: int = 0, labels: int = 0) -> Batch:
    """Random texts of these lengths in two segments, padded to the longest and by `padding` more.

    Args:
        labels: number of classes that the texts' labels are drawn from; 0 for no labels.
    """
    generator = torch.Generator().manual_seed(seed)
    size = (len(lengths), max(lengths) + padding)
    positions = torch.arange(size[1])[None]
    mask = (positions < torch.tensor(lengths)[:, None]).long()
    segments = (positions >= torch.tensor(lengths)[:, None] // 2).long()
    batch = {
        "input_ids": torch.randint(1, TOKENS, size, generator=generator) * mask,
        "attention_mask": mask,
        "token_type_ids": segments * mask,
    }
    if labels:
        batch["labels"] = torch.randint(0, labels, (len(lengths),), generator=generator)
    return batch


def inputs_of(batch: Mapping[str, torch.Tensor]) -> Batch:
    """The batch without its labels."""
    return {name: value for name, value in batch.items() if name != "labels"}


OF_TOKENS = ("start_logits", "end_logits")
"""Outputs of two dimensions with a number for each token."""


def outputs(model: Any, batch: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """All outputs of a model for a batch, without those of padding."""
    mask = batch["attention_mask"].bool()
    with torch.no_grad():
        found = {name: value for name, value in run_model(model, batch).items() if value is not None}
    # By name and not by shape: a text of three tokens looks like three labels.
    return [value[mask] if value.dim() == 3 or name in OF_TOKENS else value for name, value in found.items()]


def summed_loss(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy, summed over the texts."""
    return functional.cross_entropy(run_model(model, batch).logits, batch["labels"], reduction="sum")


def assert_same(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], tolerance: float = 1e-4) -> None:
    """Asserts that outputs differ by at most `tolerance` of the largest value.

    FP32 sums in another order, as of another attention, batch or CPU, differ by up to 1.3e-5 of it: ten times less than is
    allowed, which is ten times less than an error of 1e-3 in the weights makes.
    """
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance * float(other.abs().max()), rtol=0)


def difference(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> float:
    """The largest difference."""
    return max(float((one - other).abs().max()) for one, other in zip(found, wanted, strict=True))


def silenced(model: Any, kept: Kept) -> Any:
    """A copy in which no removed unit is read, without surgery: weights that read it are 0, removed layers are left out."""
    other = copy.deepcopy(model)
    layers = parts_of(other)
    with torch.no_grad():
        for index, units in kept.items():
            output, down = layers[index].attention_output, layers[index].down
            size = shape_of(other).head_size
            for head in set(range(output.in_features // size)) - set(units.heads):
                output.weight[:, head * size : (head + 1) * size] = 0
            for neuron in set(range(down.in_features)) - set(units.neurons):
                down.weight[:, neuron] = 0
    stays = torch.nn.ModuleList([layer.module for index, layer in enumerate(layers) if index in kept])
    encoder_of(other).set_submodule(family_of(other).layers, stays)
    return other


def subsets(count: int) -> st.SearchStrategy[tuple[int, ...]]:
    """One or more indices, ascending."""
    return st.sets(st.integers(0, count - 1), min_size=1).map(sorted).map(tuple)


def kept_of(shape: Shape, *, every_layer: bool = False) -> st.SearchStrategy[dict[int, Units]]:
    """Any part of a shape that is a model, unequal from layer to layer."""
    parts = [
        st.builds(Units, subsets(shape.heads[index]), subsets(shape.intermediate_sizes[index])) for index in range(shape.layers)
    ]
    chosen = st.just(tuple(range(shape.layers))) if every_layer else subsets(shape.layers)
    return chosen.flatmap(lambda layers: st.fixed_dictionaries({index: parts[index] for index in layers}))


BERTS = st.fixed_dictionaries(
    {
        "layers": st.integers(1, 3),
        "heads": st.integers(1, 4),
        "head_size": st.integers(1, 6).map(lambda size: 2 * size),
        "neurons": st.integers(1, 12),
        "seed": st.integers(0, 99),
    }
)
"""Arguments of `build`."""
BATCHES = st.builds(
    batch_of,
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    seed=st.integers(0, 99),
    padding=st.integers(0, 3),
)
