"""Predictor: text in, answers out, from a bundle, on the device install."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgebert.bundle import open_variant, read_bundle, serving_of
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
        """Name of the variant that the verdict selected; another one runs where its runtime is not installed."""
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
    """The named variant, else the selected one, else another of the same standing whose runtime is installed.

    Raises:
        BundleError: there is no variant of that name.
        EnvironmentFault: no runtime here can open one.
    """
    if name is not None:
        if found := manifest.variant(name):
            get_runtime(found.target.runtime).require()
            return found
        known = ", ".join(variant.name for variant in manifest.variants)
        raise BundleError(f"The bundle has no variant {name}.", hint=f"It has: {known}")
    selected = manifest.variant(manifest.selected)
    # Never a candidate that failed its gates in the place of one that passed: FP32 is the next best then.
    order = [
        selected,
        *(v for v in manifest.variants if v.status == "PASSED"),
        *(v for v in manifest.variants if v.role == "baseline"),
    ]
    usable = [variant for variant in order if variant and get_runtime(variant.target.runtime).available()]
    if not usable:
        needed = ", ".join(sorted({variant.target.runtime for variant in manifest.variants}))
        raise EnvironmentFault(
            f"None of the bundle's runtimes is installed: {needed}.",
            hint='Install one: pip install "edgebert[openvino]"',
        )
    return usable[0]
