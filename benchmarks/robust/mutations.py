"""Inputs mutated with a seed: each ends in an answer or in one error, soon, in little memory; what must not load does not."""

from __future__ import annotations

import random
import shutil
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robust.bounded import Outcome, bounded
from robust.changes import Mutation
from robust.mutated_files import BUNDLE, DATA, RECIPE, REPORT
from robust.mutated_models import MODEL
from robust.tiny import command

SECONDS, MEGABYTES = 10.0, 2048.0
"""What no mutated input may exceed."""
TRACES = ("Traceback (most recent call last)", "fault in edgebert", "panicked at", "Segmentation fault", "core dumped")


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
