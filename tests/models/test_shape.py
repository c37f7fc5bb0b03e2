"""Sizes: read from every kind of config, counted as torch counts them, and refused where they are no model."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import BERTS, build, kept_of
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from edgebert.models.sizes import Shape, mean_macs
from edgebert.models.surgery import Units, prune, shape_of

SMALL = Shape(hidden_size=8, head_size=4, heads=(2, 1), intermediate_sizes=(16, 5))


@settings(max_examples=15)
@given(options=BERTS, length=st.integers(1, 12), draw=st.data())
def test_macs_are_those_that_torch_counts(options: dict[str, Any], length: int, draw: st.DataObject) -> None:
    model = build(BertModel, **options, attn_implementation="eager")
    pruned = prune(model, draw.draw(kept_of(shape_of(model))))
    for encoder in (model, pruned):
        hidden = torch.zeros(1, length, model.config.hidden_size)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder.encoder(hidden)
        assert shape_of(encoder).macs(length) == counter.get_total_flops() / 2


def test_a_length_may_be_a_mean() -> None:
    assert SMALL.macs(2.5) == 3 * (2.5 * 4 * 8 * 4 + 2 * 2.5**2 * 4) + 21 * 2.5 * 2 * 8


def test_mean_macs_is_the_mean_over_texts_not_the_macs_of_the_mean() -> None:
    assert mean_macs(SMALL, [1, 3]) == (SMALL.macs(1) + SMALL.macs(3)) / 2 > SMALL.macs(2)


def test_a_shape_comes_from_every_kind_of_config() -> None:
    config = BertConfig(hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=10)
    whole = Shape(hidden_size=24, head_size=6, heads=(4, 4, 4), intermediate_sizes=(10, 10, 10))
    assert Shape.from_config(config) == Shape.from_config(config.to_dict()) == whole
    pruned = prune(BertModel(config), {0: Units((1,), (0, 9)), 2: Units((0, 2, 3), (5,))})
    cut = Shape(hidden_size=24, head_size=6, heads=(1, 3), intermediate_sizes=(2, 1))
    assert Shape.from_config(pruned.config) == Shape.from_config(pruned.config.to_dict()) == cut
    assert (whole.layers, cut.layers) == (3, 2)
    assert Shape.from_config({**pruned.config.to_dict(), "attention_head_size": 5}).head_size == 5


@pytest.mark.parametrize(
    ("heads", "intermediate_sizes", "message"),
    [
        ((), (), "one or more layers"),
        ((1, 2), (3,), "one or more layers"),
        ((1, 0), (3, 3), "1 head or more"),
        ((1, 1), (0, 3), "1 FFN neuron or more"),
    ],
)
def test_sizes_that_are_no_model_are_refused(heads: tuple[int, ...], intermediate_sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shape(hidden_size=8, head_size=4, heads=heads, intermediate_sizes=intermediate_sizes)


def test_shapes_need_no_torch() -> None:
    code = "import sys, edgebert.models.sizes; assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
