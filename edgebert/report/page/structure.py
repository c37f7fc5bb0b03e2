"""Section: heads and FFN neurons removed from each layer, and the sensitivity of each matrix product to INT8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgebert.models.families import FAMILIES
from edgebert.models.sizes import EncoderSizes
from edgebert.report.entry import Entry
from edgebert.report.page.palette import bar_series, label_axis, lines, plain
from edgebert.report.page.parts import PageColumn, Picture, Section, Table, number, words
from edgebert.report.page.source import PageSource
from edgebert.report.search_record import LayerSensitivity
from edgebert.report.text.removed import removal_lines

MOST = 30
"""Most bars of a picture; the table has all matrix products."""
LAYER = 34
"""Height of a layer in pixels."""


def section(source: PageSource) -> Section:
    """The section: two pictures for each encoder that was cut, one for each search that measured its layers' sensitivity."""
    pictures: list[Picture] = []
    lead = []
    for label, entry, encoder in cut_entries(source):
        pictures += [heads_picture(label, encoder), widths_picture(label, encoder)]
        total = [line for line in removal_lines(source.report, entry) if not line.startswith("layer ")]
        lead.append(f"{label}: {'; '.join(total)}.")
    lead += [line for line in vocabulary_lines(source) if not any(line.partition(": ")[2] in said for said in lead)]
    for label, entry in source.labelled:
        if entry.search and entry.search.sensitivity:
            pictures.append(sensitivity_picture(label, entry.search.sensitivity))
    return Section("structure", "What was removed, and what is sensitive", tuple(lead), pictures=tuple(pictures))


def vocabulary_lines(source: PageSource) -> list[str]:
    """A line for each cut of a vocabulary, under the name of the last entry that has it."""
    last = {entry.vocabulary.sentence(): label for label, entry in source.labelled if entry.vocabulary}
    return [f"{label}: {sentence}." for sentence, label in last.items()]


def cut_entries(source: PageSource) -> list[tuple[str, Entry, EncoderSizes]]:
    """Entries whose encoder was cut. Each encoder appears once, with its last entry, which is the one that ships."""
    cut: dict[str, tuple[str, Entry, EncoderSizes]] = {}
    for label, entry in source.labelled:
        if entry.encoder and not entry.encoder.whole:
            cut[entry.encoder.model_dump_json()] = (label, entry, entry.encoder)
    return list(cut.values())


def heads_picture(label: str, encoder: EncoderSizes) -> Picture:
    """A mark for each head of each layer of the original encoder: a filled square was kept, a cross was removed."""
    kept = [(head, layer.place) for layer in encoder.layers for head in layer.heads]
    every = [(head, index) for index in range(encoder.original_layers) for head in range(encoder.original_heads)]
    gone = [head for head in every if head not in set(kept)]
    return Picture(
        title=f"Attention heads of {label}",
        label=f"{len(kept)} of {len(every)} attention heads are kept; the table says which, layer by layer.",
        data=[_heads(kept, "kept", "square", "--series-1", 13), _heads(gone, "removed", "x-thin-open", "--series-2", 9)],
        layout={
            "xaxis": {"title": {"text": "head"}, "dtick": 1, "showgrid": False, "range": [-0.6, encoder.original_heads - 0.4]},
            "yaxis": _layer_axis(encoder),
        },
        table=removal_table(label, encoder),
        height=120 + LAYER * max(encoder.original_layers, 3),
        half=True,
    )


def _heads(heads: Sequence[tuple[int, int]], name: str, symbol: str, colour: str, size: int) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [head for head, _ in heads],
        "y": [layer for _, layer in heads],
        "hovertemplate": f"layer %{{y}}, head %{{x}}: {name}<extra></extra>",
        "marker": {"symbol": symbol, "color": colour, "size": size, "line": {"width": 2, "color": colour}},
    }


def _layer_axis(encoder: EncoderSizes) -> dict[str, Any]:
    return {"title": {"text": "layer"}, **label_axis([*map(str, range(encoder.original_layers))]), "showgrid": False}


def widths_picture(label: str, encoder: EncoderSizes) -> Picture:
    """A bar for each layer: FFN neurons that were kept, and that were removed."""
    full = encoder.original_intermediate_size
    widths = _widths(encoder)
    return Picture(
        title=f"FFN width of {label}",
        label=f"{sum(widths)} of {full * encoder.original_layers} FFN neurons are kept; the table has each layer's.",
        data=[
            _neurons(widths, "kept", {"color": "--series-1"}),
            _neurons(
                [full - width for width in widths],
                "removed",
                {
                    "color": "--surface",
                    "line": {"color": "--series-2", "width": 1.5},
                    "pattern": {"shape": "/", "fgcolor": "--series-2"},
                },
            ),
        ],
        layout={
            "barmode": "stack",
            "legend": {"traceorder": "normal"},
            "xaxis": {"title": {"text": "neurons"}},
            "yaxis": _layer_axis(encoder),
            "bargap": 0.35,
        },
        table=removal_table(label, encoder),
        height=120 + LAYER * max(encoder.original_layers, 3),
        half=True,
    )


def _neurons(counts: Sequence[int], name: str, marker: dict[str, Any]) -> dict[str, Any]:
    return bar_series(counts, marker, name=name, hovertemplate=f"layer %{{y}}: %{{x}} {name}<extra></extra>")


def _widths(encoder: EncoderSizes) -> list[int]:
    """Number of FFN neurons in each layer of the original encoder; 0 where the layer was removed."""
    sizes = {layer.place: layer.intermediate_size for layer in encoder.layers}
    return [sizes.get(index, 0) for index in range(encoder.original_layers)]


def removal_table(label: str, encoder: EncoderSizes) -> Table:
    """The kept heads and FFN neurons, a row for each layer of the original encoder."""
    heads = {layer.place: layer.heads for layer in encoder.layers}
    rows = [
        (
            number(index, "{:.0f}"),
            number(len(heads.get(index, ())), "{:.0f}"),
            words(", ".join(map(str, heads[index])) if index in heads else "layer removed"),
            number(width, "{:,.0f}"),
            number(width / encoder.original_intermediate_size, "{:.0%}"),
        )
        for index, width in enumerate(_widths(encoder))
    ]
    columns = (
        PageColumn("layer"),
        PageColumn(f"heads of {encoder.original_heads}"),
        PageColumn("which", numeric=False),
        PageColumn(f"FFN neurons of {encoder.original_intermediate_size:,}"),
        PageColumn("share"),
    )
    return Table(f"What is left of each layer in {label}", columns, tuple(rows), sortable=False)


def sensitivity_picture(label: str, layers: Sequence[LayerSensitivity]) -> Picture:
    """A bar for each matrix product: divergence of the answers when it alone is INT8, the most sensitive at the top."""
    shown = layers[:MOST]
    hover = [lines((layer.name, f"divergence {layer.divergence:.2e}", f"score lost {layer.lost:+.4f}")) for layer in shown]
    return Picture(
        title=f"Sensitivity to INT8 of {label}" + (f": the first {MOST} of {len(layers)}" if len(layers) > MOST else ""),
        label=f"Most sensitive to INT8 in {label}: {', '.join(layer.name for layer in shown[:3])}.",
        data=[bar_series([layer.divergence for layer in shown], {"color": "--series-1"}, hover, showlegend=False)],
        layout={
            "xaxis": {"title": {"text": "divergence, nats"}, "exponentformat": "power"},
            "yaxis": label_axis([plain(_brief(layer.name)) for layer in shown]),
        },
        table=_sensitivity_table(label, layers),
        height=110 + 24 * max(len(shown), 4),
        log_axis="x" if all(layer.divergence > 0 for layer in shown) else None,
    )


def _brief(name: str) -> str:
    """A short name beside an axis: `0.attention.self.query` for `bert.encoder.layer.0.attention.self.query/MatMul`."""
    module = name.rsplit("/", 1)[0]
    starts = [f"{family.prefix}.{family.layers}." for family in FAMILIES]
    return next((module.removeprefix(start) for start in starts if module.startswith(start)), module)


def _sensitivity_table(label: str, layers: Sequence[LayerSensitivity]) -> Table:
    rows = [
        (
            words(layer.name),
            number(layer.divergence, "{:.2e}"),
            number(layer.lost, "{:+.4f}"),
            number(layer.weights_share, "{:.1%}"),
        )
        for layer in layers
    ]
    columns = (
        PageColumn("matrix product", numeric=False),
        PageColumn("divergence", meaning="mean KL divergence of its answers from FP32's, in nats, when it alone is INT8"),
        PageColumn("score lost"),
        PageColumn("share of weights"),
    )
    return Table(f"Sensitivity of each matrix product in {label}", columns, tuple(rows))
