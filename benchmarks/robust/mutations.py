"""Inputs mutated with a seed: each ends in an answer or in one error, soon, in little memory; what must not load does not."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robust.bounded import Outcome, bounded
from robust.tiny import command

SECONDS, MEGABYTES = 10.0, 2048.0
"""What no mutated input may exceed."""
TRACES = ("Traceback (most recent call last)", "fault in edgebert", "panicked at", "Segmentation fault", "core dumped")
MANY = 100_000


@dataclass
class Counts:
    """What became of the mutated inputs of one kind."""

    inputs: int = 0
    refused: int = 0
    traced: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)
    large: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    """Inputs that were used and must not be."""

    def note(self, what: str, outcome: Outcome, *, must_refuse: bool) -> None:
        """Judges one outcome."""
        said = outcome.out + outcome.err
        if outcome.code not in (0, 1, 2, 3) or any(trace in said for trace in TRACES):
            self.traced.append(f"{what}: exit code {outcome.code}: {said.strip()[-300:]}")
        if outcome.code is None or outcome.seconds > SECONDS:
            self.hung.append(f"{what}: {outcome.seconds:.1f} s")
        if outcome.peak_mb > MEGABYTES:
            self.large.append(f"{what}: {outcome.peak_mb:.0f} MB")
        self.refused += outcome.code in (2, 3)
        if must_refuse and outcome.code == 0:
            self.loaded.append(what)


@dataclass(frozen=True)
class Mutation:
    """A change of files, and whether what was changed must be refused."""

    name: str
    change: Callable[[Path, random.Random], object]
    must_refuse: bool = False


def nested(depth: int) -> str:
    """Lists in lists, as JSON or YAML."""
    return "[" * depth + "]" * depth


def values(draw: random.Random) -> Any:
    """A value that no reader expects."""
    return draw.choice(
        (None, True, -1, 0, 10**10, 10**309, -1e308, float("nan"), "", "x" * 10_000, "\x00", "../../etc/passwd", [], {}, [[[]]])
    )


def nodes(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values of a parsed file."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from nodes(item, (*path, key))


def change_value(tree: Any, draw: random.Random) -> str:
    """Replaces, drops, renames or doubles one value. Returns what was done."""
    path = draw.choice(list(nodes(tree)))
    holder = tree
    for key in path[:-1]:
        holder = holder[key]
    how = draw.choice(("replace", "replace", "replace", "drop", "rename"))
    if how == "replace":
        holder[path[-1]] = value = values(draw)
        return f"{'.'.join(map(str, path))} = {value!r:.30}"
    item = holder.pop(path[-1])
    if how == "rename" and isinstance(holder, dict):
        holder[f"{path[-1]}_"] = item
    return f"{how} {'.'.join(map(str, path))}"


def in_json(name: str) -> Callable[[Path, random.Random], str]:
    """Changes a value of a JSON file."""

    def change(folder: Path, draw: random.Random) -> str:
        tree = json.loads((folder / name).read_text())
        done = change_value(tree, draw)
        (folder / name).write_text(json.dumps(tree))
        return done

    return change


def in_yaml(name: str) -> Callable[[Path, random.Random], str]:
    """Changes a value of a YAML file."""

    def change(folder: Path, draw: random.Random) -> str:
        import yaml

        tree = yaml.safe_load((folder / name).read_text())
        done = change_value(tree, draw)
        (folder / name).write_text(yaml.safe_dump(tree))
        return done

    return change


def in_bytes(name: str) -> Callable[[Path, random.Random], str]:
    """Flips bits of a file, shortens it, doubles or zeroes a piece, or puts random bytes into it."""

    def change(folder: Path, draw: random.Random) -> str:
        file = folder / name
        content = bytearray(file.read_bytes())
        at = draw.randrange(len(content))
        how = draw.choice(("flip", "cut", "double", "zero", "insert", "empty"))
        piece = slice(at, at + draw.randint(1, 200))
        if how == "flip":
            content[at] ^= 1 << draw.randrange(8)
        elif how == "zero":
            content[piece] = bytes(1 + len(content[piece]))
        elif how == "double":
            content[at:at] = content[piece]
        elif how == "insert":
            content[at:at] = draw.randbytes(20)
        else:
            del content[at if how == "cut" else 0 :]
        file.write_bytes(content)
        return f"{how} at {at}"

    return change


def replaced(name: str, content: str | bytes) -> Callable[[Path, random.Random], object]:
    """Another content of a file."""
    return lambda folder, draw: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def special(name: str) -> Callable[[Path, random.Random], str]:
    """Puts what is no file in the position of a file."""

    def change(folder: Path, draw: random.Random) -> str:
        file, how = (
            folder / name,
            draw.choice(("pipe", "folder", "link to itself", "link to /dev/zero", "link to nothing", "no rights")),
        )
        if how == "no rights":
            file.chmod(0)
            return how
        file.unlink()
        if how == "pipe":
            os.mkfifo(file)
        elif how == "folder":
            file.mkdir()
        else:
            file.symlink_to({"link to itself": name, "link to /dev/zero": "/dev/zero"}.get(how, "nothing"))
        return how

    return change


def tensors(change: Callable[[dict[str, Any], random.Random], object]) -> Callable[[Path, random.Random], object]:
    """Changes the weights of the model."""

    def changed(folder: Path, draw: random.Random) -> object:
        from safetensors.numpy import load_file, save_file

        weights = {name: value.copy() for name, value in load_file(folder / "model.safetensors").items()}
        done = change(weights, draw)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return done

    return changed


def _drop(weights: dict[str, Any], draw: random.Random) -> str:
    name = draw.choice(sorted(name for name in weights if "position_ids" not in name))
    del weights[name]
    return name


def _rename(weights: dict[str, Any], draw: random.Random) -> str:
    name = draw.choice(sorted(weights))
    weights[draw.choice(("module.", "_orig_mod.", "base_model.model.", "x")) + name] = weights.pop(name)
    return name


def _extra(weights: dict[str, Any], draw: random.Random) -> str:
    import numpy as np

    name = draw.choice(("bert.encoder.layer.2.output.dense.weight", "bert.encoder.layer.0.adapter.weight", "classifier.SCB"))
    weights[name] = np.zeros((3, 3), np.float32)
    return name


def _reshape(weights: dict[str, Any], draw: random.Random) -> str:
    name = draw.choice(sorted(name for name, value in weights.items() if value.ndim == 2))
    weights[name] = weights[name][:-1].copy()
    return name


def _nan(weights: dict[str, Any], draw: random.Random) -> str:
    name = draw.choice(sorted(name for name, value in weights.items() if value.dtype.kind == "f" and value.size))
    weights[name].reshape(-1)[draw.randrange(weights[name].size)] = draw.choice((float("nan"), float("inf")))
    return name


def header(text: str) -> bytes:
    """A safetensors file that is only a header."""
    return len(text.encode()).to_bytes(8, "little") + text.encode()


def config(**fields: Any) -> Callable[[Path, random.Random], object]:
    """Other values in config.json."""

    def change(folder: Path, draw: random.Random) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))

    return change


MODEL = (
    *(Mutation(f"a value of {name}", in_json(name)) for name in ("config.json", "tokenizer.json", "tokenizer_config.json")),
    *(Mutation(f"bytes of {name}", in_bytes(name)) for name in ("config.json", "tokenizer.json")),
    Mutation("the header of model.safetensors", lambda folder, draw: _header_bytes(folder / "model.safetensors", draw)),
    *(Mutation(f"{name} is no file", special(name), True) for name in ("config.json", "tokenizer.json", "model.safetensors")),
    Mutation("a tensor is gone", tensors(_drop), True),
    Mutation("a tensor has another name", tensors(_rename), True),
    Mutation("a tensor too many", tensors(_extra), True),
    Mutation("a tensor of another shape", tensors(_reshape), True),
    Mutation("a weight that is no number", tensors(_nan), True),
    Mutation("10^10 labels", config(num_labels=10**10, id2label=None), True),
    Mutation("10^9 layers", config(num_hidden_layers=10**9), True),
    Mutation("hidden size of 10^9", config(hidden_size=10**9), True),
    Mutation("nested config", replaced("config.json", nested(MANY)), True),
    Mutation("nested header", replaced("model.safetensors", header('{"a": ' + nested(MANY) + "}")), True),
    Mutation("a header of 10^18 bytes", replaced("model.safetensors", (10**18).to_bytes(8, "little") + b"{}"), True),
    Mutation(
        "a bad regular expression",
        lambda folder, draw: _normaliser(folder, {"type": "Replace", "pattern": {"Regex": "(((("}, "content": ""}),
        True,
    ),
    Mutation("chained normalisers", lambda folder, draw: _normaliser(folder, _chain(MANY)), True),
)


def _header_bytes(file: Path, draw: random.Random) -> str:
    content = bytearray(file.read_bytes())
    at = draw.randrange(8 + int.from_bytes(content[:8], "little"))
    content[at] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    return f"flip at {at}"


def _chain(depth: int) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * depth}


def _normaliser(folder: Path, made: dict[str, Any]) -> None:
    tree = json.loads((folder / "tokenizer.json").read_text())
    tree["normalizer"] = made
    (folder / "tokenizer.json").write_text(json.dumps(tree))


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


@dataclass(frozen=True)
class Kind:
    """Inputs of one kind: how they are mutated, in a copy of which folder, and what then reads them."""

    name: str
    mutations: tuple[Mutation, ...]
    template: Path
    part: str
    """The folder below the copy that mutations change; empty for the copy itself."""
    readers: tuple[tuple[object, ...], ...]
    """Verbs with their arguments, or `data` and `load`."""
    judging: int
    """How many of the readers, counted from the last, must refuse what must not load."""


def kinds(workspace: Path, bundle: Path, report: Path) -> tuple[Kind, ...]:
    """The five kinds of inputs."""
    page = ("report", "report.json", "--out", "page.html")
    return (
        Kind("model folders", MODEL, workspace, "model", (("plan", "recipe.yaml"), ("load",)), 1),
        Kind("data files", DATA, workspace, "", (("plan", "recipe.yaml"), ("data",)), 1),
        Kind("recipes", RECIPE, workspace, "", (("validate", "recipe.yaml"), ("plan", "recipe.yaml")), 1),
        Kind("reports", REPORT, report.parent, "", (page, ("compare", "report.json", report)), 1),
        Kind("bundles", BUNDLE, bundle, "", (("verify", "."), ("run", ".", "a good film")), 2),
    )


def mutate(kind: Kind, count: int, draw: random.Random) -> Counts:
    """Mutates a copy of the template so many times. The template is left as it is."""
    counts = Counts()
    folder = kind.template.parent / "mutated"
    answer = bounded(_reader(kind.readers[-1]), kind.template, limit=60).out
    for number in range(count):
        mutation = kind.mutations[number % len(kind.mutations)]
        shutil.copytree(kind.template, folder, ignore=shutil.ignore_patterns("store", "out"))
        before = _contents(folder / kind.part)
        done = mutation.change(folder / kind.part, draw)
        changed = _contents(folder / kind.part) != before
        counts.inputs += 1
        for index, words in enumerate(kind.readers):
            judges = index >= len(kind.readers) - kind.judging
            outcome = bounded(_reader(words), folder, limit=SECONDS + 5)
            judges = judges and not (words[0] == "run" and outcome.out == answer)  # it opened nothing that was changed
            counts.note(
                f"{mutation.name} ({done or ''}): {words[0]}", outcome, must_refuse=mutation.must_refuse and changed and judges
            )
        _remove(folder)
    return counts


def _remove(folder: Path) -> None:
    """Removes a mutated copy, whatever its rights are."""
    for entry in folder.rglob("*"):
        if not entry.is_symlink():
            entry.chmod(0o755)
    shutil.rmtree(folder)


def _contents(folder: Path) -> dict[str, Any]:
    """What lies in a folder, byte by byte, with its kind; rights do not count, since an administrator reads all."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (stat.S_IFMT(path.lstat().st_mode), content)
    return found


def _reader(words: tuple[object, ...]) -> Callable[[], object]:
    if words == ("load",):
        return lambda: _said(_load_model)
    if words == ("data",):
        return lambda: _said(_prepare_data)
    return command(*words)


def _said(work: Callable[[], object]) -> int:
    """Exit code and message as the command line gives them."""
    from edgebert.errors import EdgebertError

    try:
        work()
    except EdgebertError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _compression() -> Any:
    from edgebert.compress.compression import Compression
    from edgebert.compress.recipe_file import load_recipe
    from edgebert.compress.resolve import resolve_recipe
    from edgebert.core.progress import Silent
    from edgebert.core.store import ArtifactStore

    store = ArtifactStore(Path("store").resolve())
    store.prepare()
    return Compression(resolve_recipe(load_recipe("recipe.yaml")), store, Silent(), remeasure=False)


def _load_model() -> None:
    """What compress does with a model folder before its first stage, and then the weights."""
    from edgebert.models.load import load_model

    run = _compression()
    load_model(run.base.path, run.inputs.task)


def _prepare_data() -> None:
    """What compress does with its data before its first stage."""
    run = _compression()
    assert run.data
    assert run.labels
