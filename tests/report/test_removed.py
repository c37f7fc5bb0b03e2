"""The picture of the removed parts: every head at its position, every width in proportion, every total right."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_reports import entry, report

from edgebert.models.sizes import EncoderSizes, LayerSizes, Shape
from edgebert.report.entry import Entry
from edgebert.report.text.removed import ASCII, BAR_WIDTH, BLOCKS, marks_for, removal_lines
from edgebert.report.vocabulary_loss import VocabularyLoss

PRUNED = {
    "model_type": "edgebert_pruned_bert",
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "attention_head_size": 8,
    "layer_heads": [2, 4],
    "layer_intermediate_sizes": [32, 96],
    "source_layers": [0, 2],
    "source_heads": [[1, 3], [0, 1, 2, 3]],
    "source_num_hidden_layers": 3,
}


def sized(encoder: EncoderSizes | None, **changes: Any) -> Entry:
    """A candidate with that encoder."""
    return entry().model_copy(update={"encoder": encoder, **changes})


def drawn(encoder: EncoderSizes | None, **changes: Any) -> list[str]:
    candidate = sized(encoder, **changes)
    return removal_lines(report(entry(role="baseline"), candidate), candidate, ASCII)


def test_picture_has_a_line_for_each_layer_of_the_original_and_what_is_left_in_all() -> None:
    assert drawn(EncoderSizes.from_config(PRUNED)) == [
        "layer 0  .#.#  ########................  32 of 96",
        "layer 1  removed",
        "layer 2  ####  ########################  96 of 96",
        "kept: 2 of 3 layers, 6 of 12 heads, 128 of 288 FFN neurons",
    ]


def test_picture_ends_with_what_it_costs_against_fp32() -> None:
    candidate = sized(EncoderSizes.from_config(PRUNED), macs=2.0e6, parameters=13_000_000)
    baseline = entry(role="baseline").model_copy(update={"macs": 9.0e6, "parameters": 22_700_000})
    lines = removal_lines(report(baseline, candidate), candidate)
    assert lines[-1] == "MACs 1/4.5, parameters 13.00 M of 22.70 M"
    assert lines[0] == "layer 0  ·■·■  ████████░░░░░░░░░░░░░░░░  32 of 96"


def test_picture_gives_no_totals_that_were_not_counted_on_both_sides() -> None:
    assert drawn(EncoderSizes.from_config(PRUNED), macs=2.0e6, parameters=13)[-1].startswith("kept: ")


def test_there_is_no_picture_when_nothing_was_removed_or_nothing_is_known() -> None:
    plain = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 96, "num_hidden_layers": 2}
    assert drawn(EncoderSizes.from_config(plain)) == []
    assert drawn(None) == []


def test_a_cut_vocabulary_has_a_line_of_its_own() -> None:
    facts = {"tokens": 57_149, "tokens_before": 250_037, "held_out_tokens": 9000, "held_out_lost_share": 0.0005}
    more = {"held_out_unknown_share_before": 0.0, "held_out_unknown_share": 0.0001, "held_out_growth": 1.0004, "macs": 1}
    loss = VocabularyLoss.of({**facts, **more})
    line = (
        "vocabulary: 57,149 of 250,037 tokens stay, 77.1% go; of the 9,000 tokens of data.eval 0.05% are lost, 0.01% are "
        "unknown now and were 0.00%, and a text has 1.000 times the tokens"
    )
    assert VocabularyLoss.of(facts) is None
    assert drawn(None, vocabulary=loss) == [line]
    assert drawn(EncoderSizes.from_config(PRUNED), vocabulary=loss)[-2:][1] == line
    candidate = sized(None, vocabulary=loss)
    assert Entry.model_validate_json(candidate.model_dump_json()).vocabulary == loss


@pytest.mark.parametrize(
    "change", [{"heads": (0, 1, 2)}, {"intermediate_size": 95}, {"layers": 3}], ids=["a head", "a neuron", "a layer"]
)
def test_picture_is_drawn_when_the_smallest_part_was_removed(change: dict[str, Any]) -> None:
    layer = LayerSizes(place=0, heads=change.get("heads", (0, 1, 2, 3)), intermediate_size=change.get("intermediate_size", 96))
    sizes = {"hidden_size": 32, "head_size": 8, "original_heads": 4, "original_intermediate_size": 96}
    assert drawn(EncoderSizes(layers=(layer,), original_layers=change.get("layers", 1), **sizes))


@given(full=st.integers(2, 5000), share=st.floats(0, 1))
def test_bar_is_full_or_empty_only_when_the_layer_is(full: int, share: float) -> None:
    width = max(1, round(full * share))
    layer = LayerSizes(place=0, heads=(0,), intermediate_size=width)
    encoder = EncoderSizes(
        hidden_size=8, head_size=4, layers=(layer,), original_layers=1, original_heads=2, original_intermediate_size=full
    )
    bar = drawn(encoder)[0].split("  ")[2]
    assert len(bar) == BAR_WIDTH
    assert set(bar) == ({"#"} if width == full else {"#", "."})
    assert abs(bar.count("#") - BAR_WIDTH * width / full) <= 1


def test_layers_of_a_deep_model_stand_in_columns() -> None:
    deep = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 1024, "num_hidden_layers": 12}
    sizes = {"layer_heads": [4] * 12, "layer_intermediate_sizes": [8] + [1024] * 11}
    *layers, _ = drawn(EncoderSizes.from_config({**deep, **sizes}))
    assert len({len(line) for line in layers}) == 1
    assert layers[0].startswith("layer  0") and layers[11].startswith("layer 11")


@pytest.mark.parametrize(
    ("encoding", "marks"), [("utf-8", BLOCKS), ("ascii", ASCII), ("latin-1", ASCII), ("no-such", ASCII), (None, ASCII)]
)
def test_marks_are_those_that_the_output_can_show(encoding: str | None, marks: Any) -> None:
    assert marks_for(encoding) is marks


def test_sizes_come_from_the_config_of_a_pruned_bert() -> None:
    found = EncoderSizes.from_config(PRUNED)
    assert found.layers == (
        LayerSizes(place=0, heads=(1, 3), intermediate_size=32),
        LayerSizes(place=2, heads=(0, 1, 2, 3), intermediate_size=96),
    )
    assert (found.original_layers, found.original_heads, found.original_intermediate_size) == (3, 4, 96)
    assert found.shape == Shape.from_config(PRUNED)
    assert not found.whole


def test_sizes_of_a_plain_bert_are_all_its_own_and_berts_usual_where_it_names_none() -> None:
    found = EncoderSizes.from_config({"model_type": "bert", "num_hidden_layers": 2})
    assert found.whole
    assert [(layer.place, len(layer.heads), layer.intermediate_size) for layer in found.layers] == [
        (0, 12, 3072),
        (1, 12, 3072),
    ]
    assert (found.hidden_size, found.head_size) == (768, 64)


def test_sizes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError):
        EncoderSizes.from_config({**PRUNED, "source_layers": [0]})
