"""Bundles in the clients of others: the same labels as edgebert's, from the code that the model card has for each client.

    python benchmarks/clients.py --assets DIR [--peers DIR] [--work DIR] [--store DIR] [--quick]

DIR holds models/sst2-minilm-l6 and sst2/{train,dev}.tsv. Three bundles are made: plain INT8, what `method: auto` found (with
graph optimisers that are off), and one whose vocabulary was cut. Transformers.js, onnxruntime-node, optimum-onnx, optimum-intel
and sentence-transformers open each in an environment of their own and answer 50 texts one by one: sentences, hard Unicode, and
one of 300 words, which is longer than the model's input. `as the card says` is the card's own code, pasted; `by itself` is what
somebody writes who has not read it, which opens the FP32 graph. Every label has to be the one that edgebert gives for the same
file.

`--peers` is a folder of environments, made with pip and npm where missing. A quick run makes Node's alone, and leaves out the
clients whose environment is not there; OpenVINO's graphs are in its vocabulary-cut bundle alone, and a client that is asked `by
itself` is asked about that one.
"""

from __future__ import annotations

import csv
import json
import os
import random
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Figures, options, print_table
from peers.clients import CLIENTS, Absent, Asked, OtherClient
from runs import compress, recipe
from tokenizers import Tokenizer

from edgebert import load

COUNT, LONGEST = 50, 128
APART = 0.1
"""Largest distance between two probabilities of one label: INT8 sums are rounded otherwise by other versions of a runtime."""
HARD = (
    "cafe\u0301 and café, naïve and nai\u0308ve",
    "İstanbul ISTANBUL ıstanbul",
    "ﬁne oﬃce ﬂat ½ ① Ⅳ",
    "good\u00a0film\u2003with\u3000wide spaces",
    "soft\u00adhyphen and zero\u200bwidth\u200djoiner",
    "素晴らしい映画です",
    "정말 좋은 영화 \u1112\u1161\u11ab",
    "فيلم رائع 2026",
    "👩‍👩‍👧‍👦 loved it 🙂👍🏽",
    "𝔤𝔬𝔬𝔡 𝒇𝒊𝒍𝒎",
    "don't—really… “don't”",
    "a[MASK]b [CLS] [SEP] [UNK] ##ing",
    "ẞtraße ſtreet",
    "x" * 150,
)
TITLES = ("client", "version", "bundle", "opens", "same labels", "probabilities apart")


@dataclass(frozen=True)
class Setting:
    """Folders and options of a run of the benchmark."""

    assets: Path
    peers: Path
    work: Path
    store: Path
    quick: bool


def bundles(setting: Setting) -> Iterator[tuple[str, Path]]:
    """Makes the three bundles: name and folder of each."""
    for name, stages in {
        "plain": ["export", {"quantize": {"method": "dynamic" if setting.quick else ["dynamic", "nncf"]}}],
        "auto": ["export", {"quantize": {"method": "auto"}}],
        "vocabulary": [{"prune": {"vocabulary": {"min_count": 1}}}, "export", {"quantize": {"method": ["dynamic", "nncf"]}}],
    }.items():
        runtimes = ("onnxruntime", "openvino") if name == "vocabulary" or not setting.quick else ("onnxruntime",)
        yield name, compress(_recipe(setting, stages, runtimes), setting.work, setting.store, name).folder / "bundle"


def _recipe(setting: Setting, stages: Sequence[Any], runtimes: Sequence[str]) -> dict[str, Any]:
    model, rows = setting.assets / "models" / "sst2-minilm-l6", {"limit": 24 if setting.quick else 400}
    sst2 = setting.assets / "sst2"
    return recipe(
        model,
        stages=stages,
        targets=[{"runtime": runtime, "threads": 1} for runtime in runtimes],
        data={
            "train": {"path": str(sst2 / "train.tsv"), "columns": {"text": "sentence"}, "limit": 48 if setting.quick else 4000},
            "eval": {"path": str(sst2 / "dev.tsv"), "columns": {"text": "content"}, **rows},
        },
        gates=[{"metric": "accuracy", "min": 0.0}],
        measure={"rounds": 1, "queries": 16, "warmup": 1},
        max_length=min(LONGEST, int(json.loads((model / "config.json").read_text())["max_position_embeddings"])),
    )


def texts(setting: Setting) -> list[str]:
    """Sentences of the eval set, hard Unicode, and a text of 300 words."""
    with (setting.assets / "sst2" / "dev.tsv").open(encoding="utf-8", newline="") as file:
        sentences = [row["content"].strip() for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    draw = random.Random(0)
    long = " ".join(" ".join(draw.sample(sentences, 40)).split()[:300])
    return [*draw.sample(sentences, COUNT - len(HARD) - 1), *HARD, long]


def ask(setting: Setting, client: OtherClient, bundle: Path, asked: Sequence[str]) -> tuple[Asked, str] | None:
    """The client's answers, and the file that it opened; None where a quick run's bundle has nothing for it."""
    card = (bundle / "README.md").read_text(encoding="utf-8")
    code, file = client.own_code, client.file
    if client.title:
        _, _, after = card.partition(f"<summary>{client.title}: ")
        found = re.search(r"```(?:python|js)\n(.*?)```", after, re.DOTALL)
        if not found and setting.quick:
            return None
        if not found:
            sys.exit(f"the card of {bundle} has no code for {client.title}")
        code, file = found[1], after.partition("<")[0]
    elif setting.quick and file and not (bundle / file).exists():
        return None
    return client.ask(setting.peers, bundle, code, asked, setting.work), file or _selected(bundle)


def _selected(bundle: Path) -> str:
    """The INT8 file of ONNX Runtime."""
    variants = json.loads((bundle / "edgebert.json").read_text())["variants"]
    return next(
        str(one["file"]) for one in variants if one["role"] == "candidate" and one["target"]["runtime"] == "onnxruntime"
    )


def ours(bundle: Path, file: str, asked: Sequence[str]) -> list[tuple[str, float]]:
    """edgebert's label and probability of each text, by the variant of a file."""
    variants = json.loads((bundle / "edgebert.json").read_text())["variants"]
    variant = next((one["name"] for one in variants if one["file"] == file), None)
    if variant is None:
        sys.exit(f"{bundle} has no variant with the file {file}")
    answers: Sequence[Any] = load(bundle, variant=variant, threads=1).predict(list(asked))
    return [(answer.label, answer.score) for answer in answers]


def whole(bundle: Path, asked: Sequence[str]) -> list[bool]:
    """Whether each text fits into the model's input. Of others Transformers.js cuts the closing token as well."""
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    tokenizer.no_truncation()
    longest = json.loads((bundle / "edgebert.json").read_text())["max_length"]
    return [len(item.ids) <= longest for item in tokenizer.encode_batch(list(asked))]


def run(setting: Setting, figures: Figures) -> None:
    """Asks every client about every bundle, prints the table and notes the figures."""
    asked, rows, absent = texts(setting), [], {}
    same = total = 0
    furthest = 0.0
    made = list(bundles(setting))
    for client in CLIENTS:
        try:
            client.environment.make(setting.peers, quick=setting.quick)
        except Absent as reason:
            absent[client.name] = str(reason)
            continue
        for name, bundle in made[-1:] if setting.quick and client.own_code else made:
            print(f"{client.name}: {name}", file=sys.stderr, flush=True)
            if (told := ask(setting, client, bundle, asked)) is None:
                continue
            found, file = told
            expected = ours(bundle, file, asked)
            alike = sum(one[0] == other[0] for one, other in zip(found.answers, expected, strict=True))
            pairs = zip(found.answers, expected, whole(bundle, asked), strict=True)
            apart = max(_apart(one, other) for one, other, is_whole in pairs if is_whole)
            same, total, furthest = same + alike, total + len(asked), max(furthest, apart)
            rows.append([client.name, found.version, name, file, f"{alike} of {len(asked)}", f"{apart:.4f}"])
            _print_differences(client.name, name, asked, found.answers, expected)
    rows += [[f"{name}: left out, {reason}", *[""] * 5] for name, reason in absent.items()]
    print_table(TITLES, rows)
    figures.at_least("clients", len(CLIENTS) - len(absent), 0 if setting.quick else len(CLIENTS))
    figures.at_least("labels that are edgebert's", same / total if total else 0.0, 0.0 if setting.quick and not total else 1.0)
    figures.at_most("probabilities apart, of texts that are not cut", furthest, APART)


def _apart(one: tuple[str, float], other: tuple[str, float]) -> float:
    """Distance of two probabilities of the first one's label, of two labels."""
    return abs(one[1] - other[1]) if one[0] == other[0] else abs(one[1] - (1 - other[1]))


def _print_differences(
    client: str, bundle: str, asked: Sequence[str], found: Sequence[tuple[str, float]], expected: Sequence[tuple[str, float]]
) -> None:
    for text, one, other in zip(asked, found, expected, strict=True):
        if one[0] != other[0]:
            print(f"{client}, {bundle}: {text[:60]!a}: {one[0]} {one[1]:.4f}, edgebert {other[0]} {other[1]:.4f}")


def main() -> None:
    """Runs the benchmark. A difference is one in a quick run as well."""
    parser = options(__doc__ or "")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "edgebert-peers")
    parser.add_argument("--work", type=Path, help="a new folder that keeps what is made; by default a temporary one")
    given: Any = parser.parse_args()
    figures = Figures(quick=False)
    with tempfile.TemporaryDirectory() as folder:
        work = (given.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        os.environ["XDG_CONFIG_HOME"] = str(work / "config")  # a key of its own, never the user's
        store = (given.store or work / "store").resolve()
        run(Setting(given.assets.resolve(), given.peers.resolve(), work, store, given.quick), figures)
    figures.finish()


if __name__ == "__main__":
    main()
