"""Predictor: text in, answers out, from a bundle or from the model that a device serves. Needs the device install only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from edgebert.bundle.device_folder import Root, is_file, resolve
from edgebert.bundle.folder import Identity
from edgebert.bundle.manifest import BundleManifest, ManifestEntry
from edgebert.bundle.opened_variant import OpenedVariant
from edgebert.bundle.read import open_bundle_folder
from edgebert.bundle.self_test import ask_goldens, golden_inputs, obstacle, open_variant
from edgebert.errors import BundleError, EnvironmentFault, InputError
from edgebert.runtimes import get_runtime
from edgebert.tasks.answers import Answer, Detail
from edgebert.tasks.base import Text

MAX_THREADS, MAX_BATCH = 1024, 4096  # a recipe's targets allow as much
MAX_LABELS = 1 << 30
BATCHES_AT_ONCE = 16
"""Batches of a long file between two signs of progress."""
ATTEMPTS = 3
"""Times that a slot is opened if it is exchanged while it is being opened."""


class Predictor:
    """An opened model. Several threads may use it at once, and get the answers that each would get alone.

    It does not work after a fork, because the runtime's threads stay in the parent: load it in each process after the fork.
    """

    def __init__(self, opened: OpenedVariant) -> None:
        self._opened: OpenedVariant | None = opened

    def __call__(
        self,
        text: Text,
        *,
        top_k: int | None = None,
        logits: bool = False,
        candidates: Sequence[str] | None = None,
        prompt: str | None = None,
    ) -> Answer:
        """Answers one text. A pair is a tuple of two texts, or one with a tab between its two sentences; see `predict`."""
        if not isinstance(text, str | tuple):
            raise InputError(f"A text is asked for, not {type(text).__name__}.", hint="Many texts: predictor.predict([...])")
        return self.predict([text], top_k=top_k, logits=logits, candidates=candidates, prompt=prompt)[0]

    def predict(
        self,
        texts: Sequence[Text],
        batch: int | None = None,
        *,
        top_k: int | None = None,
        logits: bool = False,
        candidates: Sequence[str] | None = None,
        prompt: str | None = None,
    ) -> list[Answer]:
        """Answers many texts, in their order.

        Args:
            texts: a pair is a tuple of two texts, or one with a tab between its two sentences. For a model that was made for
                single texts, a tab is a space.
            top_k: labels that get their probability, the most probable first; by default all of them for a text's label, and
                none for the tags of its words.
            logits: whether answers hold the model's logits as well.
            candidates: labels to choose from, for zero-shot classification; by default those that a text names, or the bundle.
            prompt: for embeddings, name of the model's prompt that goes before every text, as `query`; by default the model's
                `default_prompt_name`, or none. In a bundle that was judged by a search, the texts of a pair have those of a
                query and a passage.
            batch: texts in one batch, padded to the longest of them; by default the number that the variant was measured
                with, usually 1. Larger batches are faster on several threads. Dynamic quantisation has one range for a
                whole batch, so there the other texts of a batch change an answer a little.

        Raises:
            InputError: a text is empty or no text, `batch` is not a whole number from 1 to 4096, or `top_k` is not one of at
                least 1.
            BundleError: the model answers NaN or infinity.
        """
        if isinstance(texts, str):
            raise InputError("A list of texts is asked for, not one text.", hint="One text: predictor(text)")
        opened = self._now().with_candidates(candidates).with_prompt(prompt)  # read once for the whole call
        asked = [opened.asked(text, number) for number, text in enumerate(texts, start=1)]
        return opened.answer(asked, _batch(opened, batch), _detail(top_k, logits))

    def predict_lines(
        self,
        lines: Sequence[str],
        batch: int | None = None,
        *,
        top_k: int | None = None,
        logits: bool = False,
        candidates: Sequence[str] | None = None,
        prompt: str | None = None,
        advance: Callable[[int], object] = lambda count: None,
    ) -> list[Answer | None]:
        """One answer for each line of a file, None for a blank line. All lines are looked at before the first is answered.

        Args:
            lines: as texts of `predict`.
            advance: called with a number of lines when that many more have their answers.

        Raises:
            InputError: as `predict`; it names the line by its number.
        """
        opened = self._now().with_candidates(candidates).with_prompt(prompt)
        size, detail = _batch(opened, batch), _detail(top_k, logits)
        asked = [opened.asked(line, number) for number, line in enumerate(lines, start=1) if line.strip()]
        answers: list[Answer | None] = [None] * len(lines)
        advance(len(lines) - len(asked))
        for start in range(0, len(asked), size * BATCHES_AT_ONCE):
            block = asked[start : start + size * BATCHES_AT_ONCE]
            for item, answer in zip(block, opened.answer(block, size, detail), strict=True):
                answers[item.number - 1] = answer
            advance(len(block))
        return answers

    @property
    def variant(self) -> ManifestEntry:
        """The variant that answers."""
        return self._now().variant

    @property
    def selected(self) -> str:
        """Name of the variant that the verdict or the device selected. Another one answers if it cannot run here."""
        return self._now().preferred

    @property
    def obstacle(self) -> str | None:
        """Why the selected variant cannot run here; None if it can."""
        opened = self._now()
        preferred = opened.manifest.variant(opened.preferred)
        return obstacle(preferred) if preferred else None

    def close(self) -> None:
        """Drops the model; calls in flight still get their answers. Optional: an unused predictor is freed by itself."""
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


def _batch(opened: OpenedVariant, batch: int | None) -> int:
    return opened.variant.target.batch if batch is None else checked("batch", batch, MAX_BATCH)


def _detail(top_k: int | None, logits: bool) -> Detail:
    return Detail(None if top_k is None else checked("top_k", top_k, MAX_LABELS), logits)


def load_predictor(
    path: Path, *, variant: str | None = None, threads: int | None = None, spinning: bool | None = None
) -> Predictor:
    """Opens a bundle after checking its signature, its names and sizes, and the content of every file that is opened.

    Args:
        path: a bundle, a device's folder, or the link `current` in it, which is followed once.
        variant: name of the variant; by default the slot's, otherwise the one that the verdict selected.
        threads: threads for one query; by default the number that the variant was measured with.
        spinning: whether threads wait for work in a loop; by default as the variant was measured.

    Raises:
        BundleError: the bundle is damaged, is not trusted, has no such variant, or the device serves no model yet.
        EnvironmentFault: no runtime here can open it.
        InputError: `threads` is not a whole number from 1 to 1024.
    """
    return Predictor(open_path(path, variant=variant, threads=threads, spinning=spinning))


def open_path(
    path: Path, *, variant: str | None = None, threads: int | None = None, spinning: bool | None = None
) -> OpenedVariant:
    """As `load_predictor`. A slot that is exchanged meanwhile is opened again, so that the result is what serves."""
    threads = None if threads is None else checked("threads", threads, MAX_THREADS)
    for _ in range(ATTEMPTS):
        before = _leads_to(path)
        try:
            folder, chosen = resolve(path)
            opened, identity = open_bundle(folder, preferred=chosen, variant=variant, threads=threads, spinning=spinning)
        except (BundleError, OSError):
            if _leads_to(path) == before:
                raise
        else:
            if identity == before == _identity(folder):
                return opened
    raise EnvironmentFault(f"{path} was exchanged each time that it was being opened.", hint="Try again.")


def open_bundle(
    folder: Path, *, preferred: str | None, variant: str | None, threads: int | None, spinning: bool | None = None
) -> tuple[OpenedVariant, Identity]:
    """Checks the bundle in a folder and opens a variant of it, from contents that were hashed before.

    Returns:
        The opened variant, and the identity of the folder that all of it is from.
    """
    with open_bundle_folder(folder) as bundle:
        manifest = bundle.manifest
        chosen = choose_variant(manifest, preferred if variant is None else variant)
        opened = OpenedVariant(
            folder=folder,
            manifest=manifest,
            preferred=preferred or manifest.selected,
            variant=chosen,
            serving=bundle.serving,
            tokenizer=bundle.open_tokenizer(),
            session=open_variant(bundle, chosen, threads, spinning),
        )
        return opened, bundle.identity


def check_answers(opened: OpenedVariant) -> None:
    """Replays the goldens of the opened variant.

    Raises:
        BundleError: its outputs differ from the goldens by more than its tolerance.
    """
    encoded = golden_inputs(opened.serving, opened.tokenizer, opened.manifest)
    test = ask_goldens(opened.session, opened.serving, opened.variant, encoded)
    if test.state != "ok":
        raise BundleError(
            f"{opened.variant.name} in {opened.folder} does not answer its goldens as where it was made: {test.result}.",
            hint="Ship the bundle again, or go back: edgebert rollback",
        )


def checked(name: str, value: object, most: int) -> int:
    """The value, if it is a whole number from 1 to `most`.

    Raises:
        InputError: it is not such a number.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InputError(f"{name} is {value!r}, but has to be a whole number from 1 to {most}.", hint=f"For example: {name}=2")
    return value


def _leads_to(path: Path) -> Identity | None:
    """Identity of the folder that a path leads to now."""
    root = Root(path)
    return _identity(root.current if is_file(root.marker) else path)


def _identity(folder: Path) -> Identity | None:
    """Device and inode of a folder, which another folder at the same path does not have; None if there is none."""
    try:
        status = folder.stat()
    except (OSError, ValueError):  # missing, or a name that no file can have
        return None
    return status.st_dev, status.st_ino


def choose_variant(manifest: BundleManifest, name: str | None = None) -> ManifestEntry:
    """The named variant; without a name the selected one, or if it cannot run here another that passed, or FP32.

    Raises:
        BundleError: there is no variant of that name.
        EnvironmentFault: no runtime here can open it, or this CPU lacks the instructions that its INT8 weights need.
    """
    if name is None:
        return _first_that_runs(manifest)
    named = manifest.variant(name)
    if named is None:
        known = ", ".join(variant.name for variant in manifest.variants)
        raise BundleError(f"The bundle has no variant {name}.", hint=f"It has: {known}")
    get_runtime(named.target.runtime).require()
    if reason := obstacle(named):
        instead = _first_that_runs(manifest)
        raise EnvironmentFault(
            f"{name} cannot run here: {reason}. INT8 accumulation would saturate without them.",
            hint=f"Use {instead.name}: it runs on this CPU.",
        )
    return named


def _first_that_runs(manifest: BundleManifest) -> ManifestEntry:
    # A candidate that failed its gates never replaces one that passed; FP32 does.
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
            hint=f'Install one: pip install "edgebert[{get_runtime(absent[-1]).device_extra or "compress"}]"',
        )
    raise EnvironmentFault(
        "No variant of the bundle can run on this CPU: it lacks 8-bit dot products.",
        hint="Compress again with `isa` in the recipe's targets, such as `isa: avx2`.",
    )
