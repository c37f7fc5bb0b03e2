"""Reports with content for every section of the page, and a parser for the elements of a rendered page."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from answers import Answers, hash_of, statistics

from edgebert.models.sizes import EncoderSizes, LayerSizes
from edgebert.report.entry import Entry
from edgebert.report.environment import Environment, MachineState
from edgebert.report.gates import Gate
from edgebert.report.page.plotly_bundle import plotly_bundle
from edgebert.report.page.source import PageSource
from edgebert.report.report import Report
from edgebert.report.rounds import Coverage, FloatProduct, Round, Setting
from edgebert.report.samples import Samples
from edgebert.report.search_record import LayerSensitivity, SearchRecord, SearchTrial
from edgebert.runtimes.target import Target

HOSTILE = """</script><img src="http://x.example/y" onerror='alert(1)'> {{ 7 * 7 }} %{x} <b>b</b> --> é 漢 😀 &lt;"""
LABELS = ("no", "yes")
REFERENCES = (0, 1, 0, 0)
"""The right answers to the four eval examples."""
FP32 = (0, 1, 1, 0)
"""The predictions of FP32."""
VOID = {"meta", "input", "br", "wbr", "img", "link", "hr"}
ENCODER = EncoderSizes(
    hidden_size=32,
    head_size=8,
    layers=(LayerSizes(place=0, heads=(0, 2), intermediate_size=16),),
    original_layers=2,
    original_heads=4,
    original_intermediate_size=64,
)
COVERAGE = Coverage(
    int8_macs=900,
    all_macs=1000,
    length=12,
    batch=1,
    kernels={"MatMul": 3, HOSTILE: 1},
    float_products=(FloatProduct(name=HOSTILE, op="MatMul", shape=(1, 10, 10), macs=100),),
    int8_macs_per_second=1e6,
)


def a_round(number: int, ms: float, count: int = 60, **changes: Any) -> Round:
    """A round of latencies around `ms` that grow with length; the same for the same number."""
    random = np.random.default_rng(number)
    lengths = random.integers(5, 9, count)
    latencies = (ms * 1e6 * (0.5 + lengths / 14) * random.uniform(0.98, 1.02, count)).astype(np.int64)
    fields = {
        "round": number,
        "latencies_ns": Samples(latencies),
        "tokenise_ns": Samples([40_000] * count),
        "lengths": Samples(lengths.astype(np.int64)),
        "end_to_end_ns": Samples(latencies + 50_000),
        "load_ns": 60_000_000,
        "cold_start_ns": 900_000_000,
        "peak_rss_bytes": 120_000_000,
        "pss_bytes": 80_000_000,
        "wall_ns": int(latencies.sum()),
        "examples": count,
        "warmup": 5,
        "stable": True,
        "overhead_ns": 150.0,
        "reference_workload_ns": Samples([1000, 1001, 1002, 1001]),
        "energy_uj": 5000,
        "pinned": (1,),
        "isa": "avx512_vnni",
        "throttled": False,
    }
    return Round(**{**fields, **changes})


def an_entry(
    name: str,
    ms: float = 2.0,
    *,
    role: Any = "candidate",
    rounds: int = 5,
    count: int = 60,
    predictions: Answers | None = FP32,
    **changes: Any,
) -> Entry:
    """A model with a median latency of `ms` milliseconds."""
    fields = {
        "name": name,
        "role": role,
        "stage": "int8-dynamic",
        "artifact": f"{abs(hash(name)) % 16**8:064x}",
        "target": Target(runtime="onnxruntime"),
        "size_bytes": 23_000_000 if role == "candidate" else 90_000_000,
        "statistics": statistics(predictions, REFERENCES, FP32),
        "rounds": tuple(a_round(number, ms, count) for number in range(rounds)),
    }
    return Entry(**{**fields, **changes})


def a_report(*entries: Entry, **changes: Any) -> Report:
    """A report of entries on one machine."""
    fields = {
        "edgebert_version": "0.1.0",
        "recipe": "mine",
        "task": "text-classification",
        "labels": LABELS,
        "eval_data": "e" * 64,
        "right_answers": hash_of([LABELS[number] for number in REFERENCES]),
        "environment": Environment(
            cpu="a cpu",
            isa=("avx2",),
            cores=2,
            machine="x86_64",
            system="Linux 6",
            python="3.11.7",
            packages={"numpy": "2"},
            flags=("fma", "avx2"),
            before=MachineState(load_average=0.5, temperature_c=41.0),
            after=MachineState(load_average=1.5, temperature_c=61.0),
        ),
        "gates": (),
        "entries": entries,
    }
    return Report(**{**fields, **changes})


def a_search() -> SearchRecord:
    return SearchRecord(
        method="static",
        rewrites=("qkv",),
        repairs=("fallback",),
        excluded_nodes=("layer.0/MatMul",),
        tuning={},
        passed=True,
        rows=4,
        trials=(
            SearchTrial(what="rewrite qkv", kept=True, ratio=1.2),
            SearchTrial(what=HOSTILE, kept=False, ratio=0.9, score=0.75, note="slower"),
            SearchTrial(what="method broken", kept=False, note="cannot be made"),
        ),
        sensitivity=(
            LayerSensitivity(
                name="bert.encoder.layer.0.attention.self.query/MatMul", lost=0.1, divergence=0.4, weights_share=0.2
            ),
            LayerSensitivity(name=HOSTILE, lost=0.0, divergence=0.001, weights_share=0.1),
        ),
    )


def full_report(**changes: Any) -> Report:
    """A report of compress: FP32, a step, three candidates, one of which is hostile by name, and gates."""
    entries = (
        an_entry("onnxruntime/fp32", 4.0, role="baseline", coverage=COVERAGE.model_copy(update={"int8_macs": 0}), macs=9e6),
        an_entry("onnxruntime/prune", 2.5, role="intermediate", encoder=ENCODER, predictions=(0, 1, 0, 1), macs=3e6),
        an_entry("onnxruntime/int8-dynamic", 1.5, coverage=COVERAGE, encoder=ENCODER, macs=3e6, predictions=(0, 1, 0, 0)),
        an_entry("onnxruntime/int8-auto", 1.2, coverage=COVERAGE, search=a_search(), predictions=(1, 1, 1, 0)),
        an_entry(f"onnxruntime/{HOSTILE}", 1.8),
    )
    gates = (Gate(metric="accuracy", min_ratio=0.9), Gate(metric="speedup", min=1.1), Gate(metric="size_mb", max=30.0))
    return a_report(*entries, **{"gates": gates, **changes})


def bench_report() -> Report:
    """A report of bench: a baseline and a model over threads and batch, and a server with a bound."""
    swept = [(threads, batch) for threads in (1, 2) for batch in (1, 8)]
    entries = [
        an_entry(name, ms * batch / threads, role=role, target=Target(runtime="onnxruntime", threads=threads, batch=batch))
        for threads, batch in swept
        for name, ms, role in (("fp32", 4.0, "baseline"), ("int8", 1.5, "candidate"))
    ]
    servers = [
        an_entry(
            "int8",
            ms,
            setting=Setting(scenario="server", rate=rate, bound_ms=5.0, bound_percent=90),
            target=Target(runtime="onnxruntime"),
        )
        for rate, ms in ((20.0, 1.6), (100.0, 9.0))
    ]
    return a_report(
        *(entry.model_copy(update={"statistics": {}}) for entry in [*entries, *servers]), task=None, right_answers=None
    )


@dataclass
class Element:
    """An element and its content."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, tag: str | None = None) -> list[Element]:
        """Elements below, in document order."""
        found = []
        for child in self.children:
            found += ([child] if tag in (None, child.tag) else []) + child.all(tag)
        return found

    def words(self) -> str:
        """All text in it."""
        return self.text + "".join(child.words() for child in self.children)


class Tree(HTMLParser):
    """Parses a page; every end tag must close the element that is open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = Element("root", {})
        self.open = [self.root]
        self.feed(text)
        assert [element.tag for element in self.open] == ["root"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(Element("#text", {}, text=data))


def source(report: Report, name: str = "mine", **changes: Any) -> PageSource:
    """A report as a source of the page."""
    return PageSource(name, Path("report.json"), report, **changes)


def tree(text: str) -> Element:
    """The elements of a page. Its plotly.js is left out: it is long, and not ours."""
    return Tree(text.replace(plotly_bundle().packed, "")).root


def sections(root: Element) -> list[str]:
    """Keys of the sections of a page, in order."""
    return [item.attributes["id"].partition("-")[2] for item in root.all("section")]
