"""Mutations of data files, recipes, reports and bundles."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

from robust.changes import MANY, Mutation, in_bytes, in_json, in_yaml, nested, replaced, special


def lines(change: Callable[[list[str], random.Random], object]) -> Callable[[Path, random.Random], object]:
    """Changes the lines of eval.csv."""

    def changed(folder: Path, draw: random.Random) -> object:
        file = folder / "data" / "eval.csv"
        rows = file.read_text(encoding="utf-8").splitlines()
        done = change(rows, draw)
        file.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return done

    return changed


def _wrong_label(rows: list[str], draw: random.Random) -> str:
    at = draw.randrange(1, len(rows))
    rows[at] = rows[at].rpartition(",")[0] + "," + draw.choice(("neutral", "2", "-1", "1.5", "nan", "", "positive;negative"))
    return rows[at][-20:]


def as_eval(name: str, content: str | bytes) -> Callable[[Path, random.Random], object]:
    """Eval data in another file."""

    def change(folder: Path, draw: random.Random) -> None:
        (folder / "data" / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        recipe = folder / "recipe.yaml"
        recipe.write_text(recipe.read_text().replace("eval: data/eval.csv", f"eval: data/{name}"))

    return change


DATA = (
    Mutation("bytes of eval.csv", in_bytes("data/eval.csv")),
    Mutation("bytes of train.csv", in_bytes("data/train.csv")),
    Mutation("a label that nobody knows", lines(_wrong_label), True),
    Mutation(
        "a column is gone", lines(lambda rows, draw: rows.__setitem__(0, draw.choice(("text", "label", "a,b", "text,text"))))
    ),
    Mutation("eval.csv is no file", special("data/eval.csv"), True),
    Mutation("a long cell", lines(lambda rows, draw: rows.append("x" * 5_000_000 + ",positive"))),
    Mutation(
        "100,000 columns",
        as_eval("wide.csv", ",".join(f"c{number}" for number in range(MANY)) + "\n" + ",".join("x" * MANY) + "\n"),
        True,
    ),
    Mutation("nested JSON Lines", as_eval("deep.jsonl", '{"text": ' + nested(MANY) + ', "label": "positive"}\n'), True),
    Mutation("a number of 10^309", as_eval("large.jsonl", '{"text": "a", "label": 1' + "0" * 309 + "}\n"), True),
    Mutation("NUL bytes", as_eval("nul.csv", b"text,label\n\x00\x00,positive\n" * 3)),
    Mutation("UTF-16", as_eval("wide16.csv", "text,label\ngood,positive\nbad,negative\n".encode("utf-16"))),
    Mutation("a Parquet file that is none", as_eval("none.parquet", b"PAR1" + bytes(100) + b"PAR1"), True),
    Mutation("no rows", as_eval("empty.csv", "text,label\n"), True),
    Mutation("an empty file", as_eval("nothing.csv", ""), True),
)


def text(change: Callable[[str, random.Random], str]) -> Callable[[Path, random.Random], object]:
    """Changes the text of recipe.yaml."""

    def changed(folder: Path, draw: random.Random) -> None:
        file = folder / "recipe.yaml"
        file.write_text(change(file.read_text(), draw))

    return changed


RECIPE = (
    *[Mutation("a value of recipe.yaml", in_yaml("recipe.yaml"))] * 4,
    *[Mutation("bytes of recipe.yaml", in_bytes("recipe.yaml"))] * 4,
    Mutation("recipe.yaml is no file", special("recipe.yaml"), True),
    Mutation("a tag", text(lambda recipe, draw: recipe + "notes: !!python/object/apply:os.system ['true']\n"), True),
    Mutation(
        "tagged lists", text(lambda recipe, draw: recipe.replace("stages:", "stages: !!set" + nested(2000) + "\nx:")), True
    ),
    Mutation("nested lists", text(lambda recipe, draw: recipe + "notes: " + nested(MANY) + "\n"), True),
    Mutation("aliases of aliases", text(lambda recipe, draw: recipe + _laughs()), True),
    Mutation("a key twice", text(lambda recipe, draw: recipe + "seed: 1\n"), True),
    Mutation("a number of 10^309", text(lambda recipe, draw: recipe.replace("seed: 0", "seed: 1" + "0" * 309)), True),
    Mutation(
        "a package that would be imported",
        text(lambda recipe, draw: recipe.replace("./model", "package://antigravity/model")),
        True,
    ),
)


def _laughs() -> str:
    rows = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]" for level in range(1, 12)]
    return "\n".join(rows) + "\n"


REPORT = (
    *[Mutation("a value of report.json", in_json("report.json"))] * 6,
    *[Mutation("bytes of report.json", in_bytes("report.json"))] * 3,
    Mutation("report.json is no file", special("report.json"), True),
    Mutation("nested report", replaced("report.json", nested(MANY)), True),
    Mutation("an entry twice", lambda folder, draw: _entry_twice(folder / "report.json"), True),
    Mutation("a number of 10^309", lambda folder, draw: _large_number(folder / "report.json", draw)),
)


def _entry_twice(file: Path) -> None:
    tree = json.loads(file.read_text())
    tree["entries"].append(tree["entries"][-1])
    file.write_text(json.dumps(tree))


def _large_number(file: Path, draw: random.Random) -> None:
    content = file.read_text()
    at = draw.choice([match.span() for match in re.finditer(r"\b\d+\b", content)])
    file.write_text(content[: at[0]] + "1" + "0" * 309 + content[at[1] :])


BUNDLE_FILES = (
    "edgebert.json",
    "config.json",
    "tokenizer.json",
    "onnx/model.onnx",
    "onnx/model_quantized.onnx",
    "edgebert.sig",
)
BUNDLE = (
    *(Mutation(f"bytes of {name}", in_bytes(name), True) for name in BUNDLE_FILES),
    *(Mutation(f"{name} is no file", special(name), True) for name in BUNDLE_FILES[:5]),
    *[Mutation("a value of edgebert.json", in_json("edgebert.json"), True)] * 4,
    Mutation("a value of edgebert.sig", in_json("edgebert.sig"), True),
    Mutation("nested manifest", replaced("edgebert.json", nested(MANY)), True),
    Mutation("nested signature", replaced("edgebert.sig", nested(MANY)), True),
    Mutation("a file too many", replaced("onnx/extra.onnx", b"x"), True),
)
