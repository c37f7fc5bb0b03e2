"""Predictor: text in, answers out, from a bundle, on the device install."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgebert.bundle import obstacle, open_variant, read_bundle, serving_of
from edgebert.errors import BundleError, EnvironmentFault, InputError
from edgebert.manifest import BundleManifest, VariantEntry
from edgebert.runtimes import get_runtime
from edgebert.runtimes.base import Session
from edgebert.serving import Serving
from edgebert.tasks.base import Answer, Row


class Predictor:
    """An opened bundle. Not safe for use by several threads at once."""

    def __init__(self, serving: Serving, variant: VariantEntry, session: Session, manifest: BundleManifest) -> None:
        self.variant = variant
        self.selected = manifest.selected
        """Name of the variant that the verdict selected; another one runs where that one cannot."""
        preferred = manifest.variant(manifest.selected)
        self.obstacle = obstacle(preferred) if preferred else None
        """Why the selected variant cannot run here; None where it can."""
        self._serving, self._session = serving, session
        self._tokenizer = serving.open_tokenizer()
        self._columns = set(manifest.goldens.rows[0])

    def __call__(self, text: str) -> Answer:
        """Answers one text; a tab separates the two sentences of a pair."""
        return self.predict([text])[0]

    def predict(self, texts: Sequence[str]) -> list[Answer]:
        """Answers many texts, `target.batch` at a time.

        Raises:
            InputError: a text is empty.
        """
        rows = [self._row(text, number) for number, text in enumerate(texts, start=1)]
        encoded = self._serving.encode(self._tokenizer, rows)
        answers: list[Answer] = []
        for batch in self._serving.batches(encoded, self.variant.target):
            answers += self._serving.task.answer(self._session.predict(batch), self._serving.labels)
        return answers

    def _row(self, text: str, number: int) -> Row:
        if not text.strip():
            raise InputError(f"Text {number} is empty.", hint="Leave it out, or write something in it.")
        row = self._serving.task.row_of(text)
        if set(row) != self._columns:
            wanted, found = (" and ".join(sorted(names)) for names in (self._columns, row))
            raise InputError(
                f"Text {number} has {found}, but this model was made for {wanted}.",
                hint="A tab separates the sentences of a pair; a single sentence holds none.",
            )
        return row


def load_predictor(folder: Path, *, variant: str | None = None, threads: int | None = None) -> Predictor:
    """Opens a bundle; every file is hashed first.

    Raises:
        BundleError: the bundle is not whole, or has no such variant.
        EnvironmentFault: no runtime here can open it.
    """
    manifest = read_bundle(folder)
    chosen = choose_variant(manifest, variant)
    return Predictor(serving_of(folder, manifest), chosen, open_variant(folder, chosen, threads), manifest)


def choose_variant(manifest: BundleManifest, name: str | None = None) -> VariantEntry:
    """The named variant, else the selected one, else another of the same standing that runs here.

    Raises:
        BundleError: there is no variant of that name.
        EnvironmentFault: no runtime here can open it, or this CPU would not give its answers.
    """
    if name is None:
        return _first_that_runs(manifest)
    found = manifest.variant(name)
    if found is None:
        known = ", ".join(variant.name for variant in manifest.variants)
        raise BundleError(f"The bundle has no variant {name}.", hint=f"It has: {known}")
    get_runtime(found.target.runtime).require()
    if reason := obstacle(found):
        instead = _first_that_runs(manifest)
        raise EnvironmentFault(
            f"{name} cannot run here: {reason}. Its sums of 8-bit products would overflow.",
            hint=f"Use {instead.name}: it runs on this CPU.",
        )
    return found


def _first_that_runs(manifest: BundleManifest) -> VariantEntry:
    # Never a candidate that failed its gates in the place of one that passed: FP32 is the next best then.
    selected = manifest.variant(manifest.selected)
    order = [
        *([selected] if selected else []),
        *(v for v in manifest.variants if v.status == "PASSED"),
        *(v for v in manifest.variants if v.role == "baseline"),
    ]
    if usable := [variant for variant in order if obstacle(variant) is None]:
        return usable[0]
    needed = sorted({variant.target.runtime for variant in order})
    if absent := [name for name in needed if not get_runtime(name).available()]:
        raise EnvironmentFault(
            f"No variant of the bundle can run here: {', '.join(absent)} not installed.",
            hint='Install one: pip install "edgebert[openvino]"',
        )
    raise EnvironmentFault(
        "No variant of the bundle can run on this CPU: it lacks 8-bit dot products.",
        hint="Compress again with `isa` in the recipe's targets, such as `isa: avx2`.",
    )
