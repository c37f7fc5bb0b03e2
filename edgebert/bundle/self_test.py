"""The self-test of a bundle: whether each variant's outputs for the golden inputs are here what they were where it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgebert.bundle.golden_answers import Comparison, compare_goldens
from edgebert.bundle.manifest import BundleManifest, ManifestEntry
from edgebert.bundle.opened import OpenBundle
from edgebert.bundle.read import open_bundle_folder
from edgebert.core.packages import package_version
from edgebert.errors import BundleError, EnvironmentFault
from edgebert.runtimes import get_runtime
from edgebert.runtimes.base import Session
from edgebert.runtimes.isa import host_cpu, of_this_architecture
from edgebert.runtimes.serving import Serving
from edgebert.tasks.base import Encoded, Task, split_outputs

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class SelfTest:
    """Result for one variant: its outputs beside its golden outputs, or None and why it cannot run."""

    variant: ManifestEntry
    compared: Comparison | None
    obstacle: str | None = None

    @property
    def difference(self) -> float | None:
        """Largest absolute difference of an output from its golden."""
        return None if self.compared is None else self.compared.difference

    @property
    def state(self) -> Literal["ok", "differs", "untested"]:
        """Whether it answers as it did, to the variant's tolerance; untested if it cannot run here."""
        if self.compared is None:
            return "untested"
        return "ok" if self.compared.within(self.variant.tolerance) else "differs"

    @property
    def result(self) -> str:
        """What was found, in words."""
        if self.compared is None:
            return self.obstacle or "it cannot run here"
        shares, turned = self.compared.shares, self.compared.turned
        found = [f"outputs differ by {self.compared.difference:.2g}"]
        found += [] if shares is None else [f"probabilities by {shares:.2g}"]
        found += [f"{turned} label{'s' if turned > 1 else ''} changed"] if turned else []
        share = "" if self.compared.numbers_off is None else " of the goldens' spread"
        return f"{', '.join(found)}, {self.variant.tolerance:g}{share} is allowed{other_versions(self.variant)}"


def other_versions(variant: ManifestEntry) -> str:
    """Which versions a variant was made with, and which are here, as the end of a sentence; empty where they are the same.

    Another version is no obstacle: the goldens show whether it answers alike.
    """
    here = {package: package_version(package) for package in variant.requires}
    other = [f"{package} {made}, here {here[package]}" for package, made in variant.requires.items() if here[package] != made]
    return f" (made with {', '.join(other)})" if other else ""


def obstacle(variant: ManifestEntry) -> str | None:
    """Why a variant cannot run here; None if it can."""
    runtime = variant.target.runtime
    if not get_runtime(runtime).available():
        return f"{runtime} is not installed"
    if not variant.runs_on(host_cpu().isas):
        return f"this CPU has none of {', '.join(of_this_architecture(variant.requires_isa) or variant.requires_isa)}"
    return None


def verify_bundle(folder: Path) -> tuple[BundleManifest, list[SelfTest]]:
    """Checks the signature and every file, then replays the goldens of every variant that can run here.

    Raises:
        BundleError: a file was altered, or the tokenizer makes other tokens here.
        TrustError: it is not signed by anybody whom this machine trusts.
    """
    with open_bundle_folder(folder) as bundle:
        bundle.check_contents()
        return bundle.manifest, replay_all(bundle)


def replay_all(bundle: OpenBundle) -> list[SelfTest]:
    """Replays the goldens of every variant.

    Raises:
        BundleError: the tokenizer makes other tokens here.
    """
    encoded = golden_inputs(bundle.serving, bundle.open_tokenizer(), bundle.manifest)
    return [replay(bundle, variant, encoded) for variant in bundle.manifest.variants]


def golden_inputs(serving: Serving, tokenizer: Tokenizer, manifest: BundleManifest) -> list[Encoded]:
    """The golden rows as tokens.

    Args:
        tokenizer: the bundle's own.

    Raises:
        BundleError: the tokenizer makes other tokens here.
    """
    encoded = serving.encode(tokenizer, manifest.goldens.rows)
    if tuple(item.ids for item in encoded) != manifest.goldens.token_ids:
        place = serving.tokenizer.parent
        raise BundleError(f"The tokenizer of {place} makes other tokens here than where the bundle was made.")
    return encoded


def replay(bundle: OpenBundle, variant: ManifestEntry, encoded: Sequence[Encoded]) -> SelfTest:
    """Opens one variant, if it can run here, and compares its outputs with the goldens. Nothing of it stays in memory."""
    if reason := obstacle(variant):
        return SelfTest(variant, None, reason)
    with bundle.copies_of_its_own():
        return ask_goldens(open_variant(bundle, variant), bundle.serving, variant, encoded)


def ask_goldens(session: Session, serving: Serving, variant: ManifestEntry, encoded: Sequence[Encoded]) -> SelfTest:
    """Compares the outputs of an opened variant with the goldens, at batch size 1 as the goldens were made."""
    answers = [_alone(session.predict(serving.batch([item], variant.target)), serving.task, item) for item in encoded]
    return SelfTest(variant, compare_goldens(answers, variant.golden_outputs, serving.task, variant.tolerance))


def _alone(outputs: Mapping[str, Any], task: Task, window: Encoded) -> Mapping[str, Any]:
    """What is compared of the outputs of a batch of one window; None for an output without the axes that the window needs."""
    own = {name: np.asarray(value) for name, value in outputs.items()}
    of_tokens = {output.name for output in task.outputs if output.of_tokens}
    whole = {
        name: value
        for name, value in own.items()
        if value.ndim and len(value) and not (name in of_tokens and (value.ndim < 2 or value.shape[1] < len(window)))
    }
    missing = {name: None for name in own if name not in whole and name not in task.also_exported}
    return {**task.golden_part(split_outputs(task, whole, [window])[0]), **missing}


def open_variant(
    bundle: OpenBundle, variant: ManifestEntry, threads: int | None = None, spinning: bool | None = None
) -> Session:
    """Opens the checked content of one variant's graph, as it was measured but for what is named.

    Args:
        threads: threads for one query.
        spinning: whether they wait for work in a loop; runtimes that do not know this do as they do.

    Raises:
        BundleError: a file of the graph was altered, or it loads a file that the manifest does not list.
        EnvironmentFault: its runtime is not installed, or this CPU lacks the instructions that its INT8 weights need.
    """
    get_runtime(variant.target.runtime).require()
    if reason := obstacle(variant):  # the runtime is installed, so the CPU is the obstacle
        raise EnvironmentFault(
            f"{variant.name} cannot run here: {reason}. INT8 accumulation would saturate without them.",
            hint="Take a variant whose `requires_isa` in edgebert.json is empty.",
        )
    runtime = get_runtime(variant.target.runtime)
    target = variant.target if threads is None else variant.target.model_copy(update={"threads": threads})
    target = target if spinning is None else runtime.with_spinning(target, spinning)
    return runtime.open(bundle.folder / variant.file, target, bundle.held_graph(variant.file))
