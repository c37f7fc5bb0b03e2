"""Vectors of all-MiniLM-L6-v2: what INT8, a cut to half and rounding keep of the order of pairs, of neighbours and of a search.

    python benchmarks/embeddings.py --assets DIR [--work DIR] [--store DIR] [--method auto|dynamic] [--quick]

The models are those of benchmarks/tasks.py: FP32, INT8 as `--method` makes it (by default `auto`), and half of the encoder's
multiply-accumulates, distilled on STS pairs and SQuAD questions, INT8; measured in one run, in which a query is both sentences
of a pair. The search is for the paragraph that answers a question of SQuAD's dev part, among the paragraphs of both parts. With
`--work` and `--store` everything made stays there, and a run that was stopped goes on.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from figures import Figures, options, print_table
from runs import Compressed
from task_sets.base import Setting
from task_sets.sentences import SENTENCES, questions, sentences
from tasks import BASE, TITLES, models_of, run_set, setting_of

from edgebert import load
from edgebert.tasks.embedding_options import Vectors
from edgebert.tasks.vectors import Matrix, scores

NEAREST = 10
NEIGHBOURS = 1000
"""Sentences whose neighbours among each other are compared."""
NAMES = ("FP32", "INT8", "half and INT8")
SEARCHES: tuple[tuple[str, Vectors, float | None], ...] = (
    ("FP32", "float32", None),
    ("INT8", "float32", None),
    ("INT8", "int8", 0.99),
    ("INT8", "binary", 0.95),
    ("half and INT8", "float32", None),
    ("half and INT8", "int8", None),
)
"""Model, kind of its vectors, and the least share of the recall of FP32's float32 vectors."""


def main() -> None:
    """Runs the chain, compares vectors, prints three tables, and exits 1 when a figure falls short."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps the runs")
    parser.add_argument("--base", default=BASE, metavar="MODEL", help="the encoder")
    parser.add_argument("--method", choices=("auto", "dynamic"), default="auto", help="how models are quantised")
    arguments = parser.parse_args()
    figures = Figures(arguments.quick)
    with tempfile.TemporaryDirectory() as folder:
        setting = replace(setting_of(arguments, Path(folder)), method=arguments.method)
        run, rows = run_set(SENTENCES, setting, figures)
        print_table(TITLES, rows)
        _order(run, figures)
        _neighbours(run, setting, figures)
        _searches(run, setting, figures)
    figures.finish()


def _order(run: Compressed, figures: Figures) -> None:
    fp32, whole, _ = (entry.score("spearman") or float("nan") for entry in models_of(run))
    figures.at_most("INT8: spearman from FP32's", abs(fp32 - whole), 0.005)


def _neighbours(run: Compressed, setting: Setting, figures: Figures) -> None:
    texts = list(setting.limited(sentences(setting)[:NEIGHBOURS]))
    found = [nearest(_similar(vectors_of(run, index, texts))) for index in range(len(NAMES))]
    shares = [overlap(found[0], other) for other in found]
    rows = [[name, f"{share:.4f}"] for name, share in zip(NAMES, shares, strict=True)]
    print_table((f"neighbours of {len(texts)} sentences", f"of FP32's {NEAREST}"), rows)
    figures.at_least(f"INT8: top-{NEAREST} overlap", shares[1], 0.95)
    figures.note(f"half and INT8: top-{NEAREST} overlap", shares[2])


def vectors_of(run: Compressed, index: int, texts: list[str]) -> Matrix:
    """Vectors of texts, shape (texts, width), by the bundle's FP32 model (0), INT8 model (1) or cut one (2)."""
    answers = load(run.folder / "bundle", variant=models_of(run)[index].name).predict(texts)
    return np.array([answer.vector for answer in answers], dtype=np.float32)  # type: ignore[attr-defined]


def _similar(vectors: Matrix) -> Matrix:
    """Cosines of texts with each other; none is its own neighbour."""
    found = scores(vectors, vectors, "float32")
    np.fill_diagonal(found, -2)
    return found


def nearest(found: Matrix) -> Matrix:
    """The columns of the NEAREST highest scores of each row, the highest first."""
    return np.argsort(-found, axis=1, kind="stable")[:, :NEAREST]


def overlap(ours: Matrix, theirs: Matrix) -> float:
    """Share of the neighbours that both have, the mean over texts."""
    return float(np.mean([len(set(one) & set(other)) / len(one) for one, other in zip(ours, theirs, strict=True)]))


def _searches(run: Compressed, setting: Setting, figures: Figures) -> None:
    asked = list(setting.limited(questions(setting, "dev")))
    others = setting.limited(questions(setting, "train"))
    passages = list(dict.fromkeys(passage for _, passage in [*asked, *others]))
    right = [passages.index(passage) for _, passage in asked]
    texts = [question for question, _ in asked]
    made = {name: (vectors_of(run, at, texts), vectors_of(run, at, passages)) for at, name in enumerate(NAMES)}
    recalls = [recall(scores(*made[name], kind), right) for name, kind, _ in SEARCHES]
    rows = []
    for (name, kind, bound), value in zip(SEARCHES, recalls, strict=True):
        share = value / recalls[0] if recalls[0] else float("nan")
        rows.append([f"{name}, {kind}", f"{value:.4f}", f"{share:.1%}"])
        if bound is None:
            figures.note(f"{name}, {kind} vectors: recall", value)
        else:
            figures.at_least(f"{name}, {kind} vectors: recall of FP32", share, bound)
    print_table((f"{len(texts)} questions, {len(passages)} paragraphs", f"recall@{NEAREST}", "of FP32"), rows)


def recall(found: Matrix, right: list[int]) -> float:
    """Share of the questions whose paragraph is among the NEAREST."""
    return float(np.mean([passage in row for passage, row in zip(right, nearest(found), strict=True)]))


if __name__ == "__main__":
    main()
