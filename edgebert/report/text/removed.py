"""The heads and FFN neurons that were removed from an encoder, layer by layer, drawn as lines of text."""

from __future__ import annotations

from dataclasses import dataclass

from edgebert.models.sizes import EncoderSizes
from edgebert.report.entry import Entry
from edgebert.report.report import Report

BAR_WIDTH = 24


@dataclass(frozen=True)
class Marks:
    """Characters for a head and for a piece of the FFN's width, kept or removed."""

    head: str
    no_head: str
    neurons: str
    no_neurons: str


BLOCKS = Marks("■", "·", "█", "░")
ASCII = Marks("#", ".", "#", ".")


def marks_for(encoding: str | None) -> Marks:
    """Blocks, or ASCII where the encoding has no blocks."""
    try:
        "".join(vars(BLOCKS).values()).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def removal_lines(report: Report, entry: Entry, marks: Marks = BLOCKS) -> list[str]:
    """One line for each layer of the original encoder, then totals, and one for the vocabulary; without those of which nothing
    was removed or sizes are not known."""
    encoder = entry.encoder
    words = [entry.vocabulary.sentence()] if entry.vocabulary else []
    if encoder is None or encoder.whole:
        return words
    lines = [_layer_line(encoder, index, marks) for index in range(encoder.original_layers)]
    return [*lines, *_totals(encoder, report.baseline_of(entry), entry), *words]


def _layer_line(encoder: EncoderSizes, index: int, marks: Marks) -> str:
    number = f"layer {index:{len(str(encoder.original_layers - 1))}}  "
    layer = next((layer for layer in encoder.layers if layer.place == index), None)
    if layer is None:
        return f"{number}removed"
    heads = "".join(marks.head if head in layer.heads else marks.no_head for head in range(encoder.original_heads))
    width, full = layer.intermediate_size, encoder.original_intermediate_size
    return f"{number}{heads}  {_bar(width, full, marks)}  {width:{len(str(full))}} of {full}"


def _bar(width: int, full: int, marks: Marks) -> str:
    """The width as a bar: only the full width fills it, and only a width of 0 leaves it empty."""
    filled = round(BAR_WIDTH * width / full)
    if 0 < width < full:
        filled = min(max(filled, 1), BAR_WIDTH - 1)
    return marks.neurons * filled + marks.no_neurons * (BAR_WIDTH - filled)


def _totals(encoder: EncoderSizes, baseline: Entry | None, entry: Entry) -> list[str]:
    heads, neurons = sum(encoder.shape.heads), sum(encoder.shape.intermediate_sizes)
    layers = encoder.original_layers
    lines = [
        f"kept: {len(encoder.layers)} of {layers} layers, {heads} of {layers * encoder.original_heads} heads, "
        f"{neurons} of {layers * encoder.original_intermediate_size} FFN neurons"
    ]
    cost = []
    if baseline and baseline.macs and entry.macs:
        cost.append(f"MACs 1/{baseline.macs / entry.macs:.1f}")
    if baseline and baseline.parameters and entry.parameters:
        cost.append(f"parameters {entry.parameters / 1e6:.2f} M of {baseline.parameters / 1e6:.2f} M")
    return [*lines, ", ".join(cost)] if cost else lines
