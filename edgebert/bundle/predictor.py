"""Predictor: text in, answers out, from a bundle or from what serves on a device, on the device install."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from edgebert.bundle.device_folder import Root, is_file, resolve
from edgebert.bundle.files import Stamp
from edgebert.bundle.manifest import BundleManifest, ManifestEntry
from edgebert.bundle.read import read_stamped_bundle, serving_of, stamps_of
from edgebert.bundle.self_test import ask_goldens, golden_inputs, obstacle, open_variant
from edgebert.errors import BundleError, EnvironmentFault, InputError
from edgebert.runtimes import get_runtime
from edgebert.runtimes.base import Session
from edgebert.runtimes.serving import Serving
from edgebert.tasks.base import Answer, Row

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_THREADS, MAX_BATCH = 1024, 4096  # a recipe's targets allow as much
ATTEMPTS = 3
"""How often a slot is opened anew when it was exchanged meanwhile."""


@dataclass(frozen=True)
class OpenedVariant:
    """One model, ready to answer: all that belongs together, so that one assignment exchanges all of it."""

    folder: Path
    """The bundle, wherever a link that led to it points by now."""
    manifest: BundleManifest
    preferred: str
    """Name of the variant that should answer: the device's choice in a slot, else the verdict's."""
    variant: ManifestEntry
    serving: Serving
    tokenizer: Tokenizer
    session: Session

    def answer(self, texts: Sequence[str], batch: int) -> list[Answer]:
        """Answers texts, `batch` at a time."""
        rows = [self._row(text, number) for number, text in enumerate(texts, start=1)]
        encoded = self.serving.encode(self.tokenizer, rows)
        answers: list[Answer] = []
        for start in range(0, len(encoded), batch):
            inputs = self.serving.batch(encoded[start : start + batch], self.variant.target)
            answers += self.serving.task.answer(self.session.predict(inputs), self.serving.labels)
        return answers

    def _row(self, text: str, number: int) -> Row:
        if not isinstance(text, str):
            raise InputError(
                f"Text {number} is {type(text).__name__}, not text.", hint="A tab separates the two sentences of a pair."
            )
        if not text.strip():
            raise InputError(f"Text {number} is empty.", hint="Leave it out, or write something in it.")
        if not text.isascii() and not _is_whole(text):
            raise InputError(
                f"Text {number} is not whole Unicode: it holds half of a character.", hint="Read it as UTF-8, or leave it out."
            )
        row, columns = self.serving.task.row_of(text), set(self.manifest.goldens.rows[0])
        if set(row) != columns:
            wanted, found = (" and ".join(sorted(names)) for names in (columns, row))
            raise InputError(
                f"Text {number} has {found}, but this model was made for {wanted}.",
                hint="A tab separates the sentences of a pair; a single sentence holds none.",
            )
        return row


class Predictor:
    """An opened model. Several threads may use it at once: each gets the answers that it would get alone.

    It does not survive a fork: load after it, in each process, for the threads of the runtime stay behind.
    """

    def __init__(self, opened: OpenedVariant) -> None:
        self._opened: OpenedVariant | None = opened

    def __call__(self, text: str) -> Answer:
        """Answers one text; a tab separates the two sentences of a pair."""
        if not isinstance(text, str):
            raise InputError(f"A text is asked for, not {type(text).__name__}.", hint="Many texts: predictor.predict([...])")
        return self.predict([text])[0]

    def predict(self, texts: Sequence[str], batch: int | None = None) -> list[Answer]:
        """Answers many texts, in their order.

        Args:
            texts: a tab separates the two sentences of a pair.
            batch: how many texts the model sees at once, padded to the longest of them; by default as many as it was
                measured with, mostly 1. More are faster on several threads. Dynamic quantisation has one range for the
                whole batch, so there the other texts of a batch change an answer a little.

        Raises:
            InputError: a text is empty or not one, or `batch` is no such number.
        """
        if isinstance(texts, str):
            raise InputError("A list of texts is asked for, not one text.", hint="One text: predictor(text)")
        opened = self._now()  # once: the whole call is answered by one model
        return opened.answer(texts, opened.variant.target.batch if batch is None else checked("batch", batch, MAX_BATCH))

    @property
    def variant(self) -> ManifestEntry:
        """The variant that answers."""
        return self._now().variant

    @property
    def selected(self) -> str:
        """Name of the variant that the verdict selected, or in a device's slot the device. Another runs where it cannot."""
        return self._now().preferred

    @property
    def obstacle(self) -> str | None:
        """Why the selected variant cannot run here; None where it can."""
        opened = self._now()
        preferred = opened.manifest.variant(opened.preferred)
        return obstacle(preferred) if preferred else None

    def close(self) -> None:
        """Lets go of the model; calls in flight end well. Not needed: what nobody uses any more is freed by itself."""
        self._opened = None

    def __enter__(self) -> Self:
        """The predictor itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def _now(self) -> OpenedVariant:
        if (opened := self._opened) is None:
            raise InputError("The predictor was closed.", hint="Load the bundle again: edgebert.load(...)")
        return opened


def load_predictor(place: Path, *, variant: str | None = None, threads: int | None = None) -> Predictor:
    """Opens what a place stands for; every file is hashed first.

    Args:
        place: a bundle, a device's folder, or the link `current` in it, which is followed once.
        variant: name of the variant; by default the slot's, else the one that the verdict selected.
        threads: threads for one query; by default as it was measured.

    Raises:
        BundleError: the bundle is not whole, is not trusted, has no such variant, or nothing serves on the device yet.
        EnvironmentFault: no runtime here can open it.
        InputError: `threads` is no such number.
    """
    return Predictor(open_place(place, variant=variant, threads=threads))


def open_place(place: Path, *, variant: str | None = None, threads: int | None = None) -> OpenedVariant:
    """As `load_predictor`. What is returned is one bundle: a slot that is exchanged meanwhile is opened anew."""
    threads = None if threads is None else checked("threads", threads, MAX_THREADS)
    for _ in range(ATTEMPTS):
        before = _standing(place)
        try:
            folder, chosen = resolve(place)
            opened, stamps = open_bundle(folder, preferred=chosen, variant=variant, threads=threads)
        except (BundleError, OSError):
            if _standing(place) == before:
                raise
        else:
            # What was parsed is what was hashed: a file that was exchanged between the two has another stamp.
            if _identity(folder) == before and stamps_of(folder, stamps) == stamps:
                return opened
    raise EnvironmentFault(f"{place} was exchanged each time that it was being opened.", hint="Try again.")


def open_bundle(
    folder: Path, *, preferred: str | None, variant: str | None, threads: int | None
) -> tuple[OpenedVariant, dict[str, Stamp]]:
    """Reads, checks and opens the bundle in a folder; the stamps are those of its files when they were hashed."""
    manifest, stamps = read_stamped_bundle(folder)
    serving = serving_of(folder, manifest)
    chosen = choose_variant(manifest, preferred if variant is None else variant)
    opened = OpenedVariant(
        folder=folder,
        manifest=manifest,
        preferred=preferred or manifest.selected,
        variant=chosen,
        serving=serving,
        tokenizer=serving.open_tokenizer(),
        session=open_variant(folder, chosen, threads),
    )
    return opened, stamps


def check_answers(opened: OpenedVariant) -> None:
    """Replays the goldens.

    Raises:
        BundleError: it answers otherwise than when it was made.
    """
    test = ask_goldens(opened.session, opened.serving, opened.variant, golden_inputs(opened.folder, opened.manifest))
    if test.state != "ok":
        raise BundleError(
            f"{opened.variant.name} in {opened.folder} answers its goldens with a difference of {test.difference:.2g}, "
            f"where {opened.variant.tolerance:g} is allowed.",
            hint="Ship the bundle again, or go back: edgebert rollback",
        )


def _is_whole(text: str) -> bool:
    """Half of a surrogate pair is in a str where bytes were not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def checked(name: str, value: object, most: int) -> int:
    """The value, if it is a whole number from 1 to `most`.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InputError(f"{name} is {value!r}, but has to be a whole number from 1 to {most}.", hint=f"For example: {name}=2")
    return value


def _standing(place: Path) -> tuple[int, int] | None:
    """Which folder a place leads to now."""
    root = Root(place)
    return _identity(root.current if is_file(root.marker) else place)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Of a folder: one that takes its place has another."""
    try:
        found = folder.stat()
    except (OSError, ValueError):  # not there, or no name of a file
        return None
    return found.st_dev, found.st_ino


def choose_variant(manifest: BundleManifest, name: str | None = None) -> ManifestEntry:
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


def _first_that_runs(manifest: BundleManifest) -> ManifestEntry:
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
