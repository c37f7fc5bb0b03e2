"""Bundle: the folder that a device receives. Hub layout, so that clients that know nothing of edgebert open it too."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgebert import __version__
from edgebert.bundle.consistency import check_claims
from edgebert.bundle.files import Stamp, check_files, list_files, read_plain_file, size_limit, stamp
from edgebert.bundle.graph_files import check_graph
from edgebert.bundle.manifest import MANIFEST, TOLERANCE, BundleManifest, GoldenInputs, VariantEntry, parse_manifest
from edgebert.bundle.trust.envelope import SIGNATURE, strict_json
from edgebert.bundle.trust.hashing import LEFT_BY_THE_HUB as LEFT_BY_THE_HUB
from edgebert.bundle.trust.policy import Signer, check_trust
from edgebert.core.packages import package_version
from edgebert.core.store import Artifact, hash_folder
from edgebert.errors import BundleError, EnvironmentFault, InputError
from edgebert.models.folder import PRUNED_TYPE
from edgebert.runtimes import get_runtime
from edgebert.runtimes.base import Session
from edgebert.runtimes.isa import EXACT, host_cpu, of_this_architecture
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Isa
from edgebert.tasks import TASKS, get_task
from edgebert.tasks.base import Encoded

if TYPE_CHECKING:
    from edgebert.compress.check import Contender, Goldens
    from edgebert.report.report import Report
    from edgebert.report.verdict import Judgement, Verdict

MODEL_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
UNLISTED = (MANIFEST, SIGNATURE)


@dataclass(frozen=True)
class Variant:
    """One graph for the bundle. FP32 has no judgement, and is not there where its tokenizer is not the best's."""

    contender: Contender
    judgement: Judgement | None
    goldens: Goldens


@dataclass(frozen=True)
class BundleParts:
    """What a bundle is made of."""

    name: str
    model: Artifact
    serving: Serving
    variants: Sequence[Variant]
    """The best is among them. All are served by `serving`: a bundle has one tokenizer."""
    report: Report
    verdict: Verdict
    lineage: Sequence[dict[str, Any]]


def write_bundle(folder: Path, parts: BundleParts, *, note: Callable[[str], None] = lambda line: None) -> None:
    """Writes the whole bundle into a new folder, and signs it with the own key.

    Args:
        note: is told where it cannot be signed; the bundle is as good then, and can be signed later.
    """
    from edgebert.bundle.model_card import model_card
    from edgebert.report.file import write_report

    folder.mkdir(parents=True)
    _copy_model_files(parts, folder)
    variants = [_write_variant(folder, variant, variant_file(variant, parts)) for variant in parts.variants]
    write_report(folder / "report.json", parts.report)
    (folder / "README.md").write_text(model_card(parts, variants), encoding="utf-8")
    goldens = next(item.goldens for item in parts.variants if item.contender.name == parts.verdict.best.entry.name)
    manifest = BundleManifest(
        edgebert_version=__version__,
        name=parts.name,
        task=parts.serving.task.name,
        labels=parts.serving.labels,
        max_length=parts.serving.max_length,
        pad_id=parts.serving.pad_id,
        files=hash_folder(folder),
        variants=tuple(variants),
        selected=parts.verdict.best.entry.name,
        verdict="PASSED" if parts.verdict.passed else "FAILED",
        reasons=parts.verdict.best.failures,
        goldens=GoldenInputs(rows=tuple(goldens.rows), token_ids=tuple(map(tuple, goldens.token_ids))),
        lineage=tuple(parts.lineage),
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    _sign(folder, note)


def _sign(folder: Path, note: Callable[[str], None]) -> None:
    from edgebert.bundle.trust.sign import sign_bundle

    try:
        sign_bundle(folder)
    except (EnvironmentFault, InputError) as error:  # of the own key; that is no reason to lose what was measured
        note(f"the bundle is not signed, so it does not load: {error.message} Sign it later: edgebert keys sign BUNDLE")


def _copy_model_files(parts: BundleParts, folder: Path) -> None:
    for name in MODEL_FILES:
        if (parts.model.path / name).is_file():
            shutil.copyfile(parts.model.path / name, folder / name)
    config = plain_config(json.loads((folder / "config.json").read_text()))
    labels = parts.serving.labels
    config["id2label"] = {str(index): label for index, label in enumerate(labels)}
    config["label2id"] = {label: index for index, label in enumerate(labels)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def plain_config(config: dict[str, Any]) -> dict[str, Any]:
    """A pruned BERT's config as a plain BERT's, for clients that read it beside the graph and know nothing of edgebert.

    What says the sizes of each layer stays as keys that they pass over. `num_attention_heads` and `intermediate_size` are
    those of the original, which a plain BERT's class can be built from.
    """
    if config.get("model_type") != PRUNED_TYPE:
        return config
    classes = [name.removeprefix("Pruned") for name in config.get("architectures") or []]
    return {**config, "model_type": "bert", "architectures": classes}


def _write_variant(folder: Path, variant: Variant, file: str) -> VariantEntry:
    contender, judgement = variant.contender, variant.judgement
    runtime = get_runtime(contender.target.runtime)
    (folder / file).parent.mkdir(exist_ok=True)
    stem = Path(runtime.model_file).stem
    for name in contender.artifact.manifest.files:  # the .xml and its .bin share a stem, and so do their copies
        renamed = (folder / file).parent / name.replace(stem, Path(file).stem, 1)
        shutil.copyfile(contender.artifact.path / name, renamed)
    return VariantEntry(
        name=contender.name,
        role="baseline" if judgement is None else "candidate",
        precision=contender.precision,
        target=contender.target,
        file=file,
        artifact=contender.artifact.sha256,
        status="BASELINE" if judgement is None else "PASSED" if judgement.passed else "FAILED",
        reasons=judgement.failures if judgement else (),
        requires={runtime.package: package_version(runtime.package)},
        requires_isa=required_isa(contender),
        tolerance=TOLERANCE[contender.precision],
        golden_outputs={name: tuple(values) for name, values in variant.goldens.outputs.items()},
    )


def required_isa(contender: Contender) -> tuple[Isa, ...]:
    """Instruction sets of which a CPU needs one, for the contender's answers to be right."""
    return () if contender.precision == "fp32" or contender.artifact.facts.get("any_cpu") else EXACT


def variant_file(variant: Variant, parts: BundleParts) -> str:
    """Where a graph lies. The names that Hub clients look for go to FP32 and to the best candidate of each runtime."""
    runtime = variant.contender.target.runtime
    folder, stem, best = {
        "onnxruntime": ("onnx", "model", "model_quantized.onnx"),
        "openvino": ("openvino", "openvino_model", "openvino_model_qint8_quantized.xml"),
    }[runtime]
    ending = best.rsplit(".", 1)[1]
    if variant.judgement is None:
        return f"{folder}/{stem}.{ending}"
    rivals = [other for other in parts.variants if other.judgement and other.contender.target.runtime == runtime]
    fastest = min(rivals, key=lambda other: _speed_rank(other, parts))
    if variant.contender.artifact.key == fastest.contender.artifact.key:
        if variant.contender.precision == "int8":
            return f"{folder}/{best}"
        baselines = [other for other in parts.variants if other.judgement is None]
        if not any(other.contender.target.runtime == runtime for other in baselines):
            return f"{folder}/{stem}.{ending}"
    target, _, label = variant.contender.name.rpartition("/")  # not the stage's: two steps of one recipe may have the same
    if any(_same_label(other, label) and other.contender.artifact.key != variant.contender.artifact.key for other in rivals):
        label += target.removeprefix(runtime)  # one search for each target, and all are called alike
    return f"{folder}/{stem}_{re.sub(r'[^a-z0-9]+', '_', label)}.{ending}"


def _same_label(variant: Variant, label: str) -> bool:
    return variant.contender.name.rpartition("/")[2] == label


def _speed_rank(variant: Variant, parts: BundleParts) -> tuple[bool, float]:
    assert variant.judgement is not None
    p50 = variant.judgement.entry.percentile_ms(50)
    return (not variant.judgement.passed, p50 if p50 is not None else float("inf"))


def read_bundle(folder: Path) -> BundleManifest:
    """Reads and checks a bundle, before any runtime parses a byte of it.

    Raises:
        BundleError: it is not a bundle, or a file is missing, extra, no plain file, or altered, or loads something else.
        TrustError: it is not signed by anybody who is trusted here.
    """
    return read_signed_bundle(folder)[0]


def read_signed_bundle(folder: Path) -> tuple[BundleManifest, Signer]:
    """The same, and who vouches for it."""
    manifest, signer, _ = _signed(folder)
    return manifest, signer


def read_stamped_bundle(folder: Path) -> tuple[BundleManifest, dict[str, Stamp]]:
    """As `read_bundle`, with the stamps of its files: after a runtime opened them, compare `stamps_of` with these."""
    manifest, _, stamps = _signed(folder)
    return manifest, stamps


def stamps_of(folder: Path, names: Iterable[str]) -> dict[str, Stamp]:
    """The stamps that files of a bundle have now; one that is gone has none."""
    found = {}
    for name in names:
        with contextlib.suppress(OSError):
            found[name] = stamp(folder / name)
    return found


def _signed(folder: Path) -> tuple[BundleManifest, Signer, dict[str, Stamp]]:
    manifest, hashes, stamps = _whole(folder)
    signer = check_trust(folder, hashes)  # before a graph is looked into: that takes as long as its maker likes
    _check_graphs(folder, manifest)
    return manifest, signer, stamps


def read_whole_bundle(folder: Path) -> tuple[BundleManifest, dict[str, str]]:
    """Reads a bundle of which it does not matter who signed it, such as one that is about to be signed.

    Returns:
        The manifest, and name -> sha256 of every file, edgebert.json among them, the signature not.

    Raises:
        BundleError: it is not a bundle, or a file is missing, extra, no plain file, or altered, or loads something else.
    """
    manifest, hashes, _ = _whole(folder)
    _check_graphs(folder, manifest)
    return manifest, hashes


def _whole(folder: Path) -> tuple[BundleManifest, dict[str, str], dict[str, Stamp]]:
    """The manifest, and the hashes and stamps of files that are as it says."""
    manifest, sha256 = _read_manifest(folder)
    present = list_files(folder, LEFT_BY_THE_HUB)
    stamps = check_files(folder, manifest.files, {name: size for name, size in present.items() if name not in UNLISTED})
    return manifest, {**{name: entry.sha256 for name, entry in manifest.files.items()}, MANIFEST: sha256}, stamps


def _check_graphs(folder: Path, manifest: BundleManifest) -> None:
    for name in sorted({variant.file for variant in manifest.variants}):
        check_graph(folder, name, manifest.files)


def read_manifest(folder: Path) -> BundleManifest:
    """Reads edgebert.json alone, whoever wrote it.

    Raises:
        BundleError: there is none, or it is not valid.
    """
    return _read_manifest(folder)[0]


def _read_manifest(folder: Path) -> tuple[BundleManifest, str]:
    """The manifest, and the sha256 of the bytes that it was read from."""
    _require_bundle(folder)
    data = read_plain_file(folder / MANIFEST, size_limit(MANIFEST))
    try:
        manifest = parse_manifest(strict_json(data))
        if manifest.task not in [task.name for task in TASKS]:
            raise BundleError(f"{folder} is for the task {manifest.task}, which this version of edgebert does not know.")
        check_claims(folder, manifest)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{folder / MANIFEST} is not valid: {error}") from error
    return manifest, hashlib.sha256(data).hexdigest()


def _require_bundle(folder: Path) -> None:
    makes = "`edgebert compress` writes one to runs/<recipe>/bundle."
    if not os.path.isdir(folder):  # noqa: PTH112 - Path's raises for a name that no system takes
        raise BundleError(f"There is no bundle folder {folder}.", hint=makes)
    if not os.path.lexists(folder / MANIFEST):
        inner = folder / "bundle"
        hint = f"Did you mean {inner}?" if (inner / MANIFEST).is_file() else makes
        raise BundleError(f"{folder} has no {MANIFEST}, so it is not a bundle.", hint=hint)


def serving_of(folder: Path, manifest: BundleManifest) -> Serving:
    """How text reaches the bundle's models."""
    return Serving(
        task=get_task(manifest.task),
        labels=manifest.labels,
        max_length=manifest.max_length,
        pad_id=manifest.pad_id,
        tokenizer=folder / "tokenizer.json",
    )


@dataclass(frozen=True)
class SelfTest:
    """What the goldens say of one variant. `difference` is None where it cannot be asked, for the reason of `obstacle`."""

    variant: VariantEntry
    difference: float | None
    obstacle: str | None = None

    @property
    def state(self) -> Literal["ok", "differs", "untested"]:
        """Whether it answers as it did when it was measured; untested where it cannot be asked."""
        if self.difference is None:
            return "untested"
        return "ok" if self.difference <= self.variant.tolerance else "differs"


def obstacle(variant: VariantEntry) -> str | None:
    """Why a variant cannot run here; None where it can."""
    runtime = variant.target.runtime
    if not get_runtime(runtime).available():
        return f"{runtime} is not installed"
    if not variant.runs_on(host_cpu().isas):
        return f"this CPU has none of {', '.join(of_this_architecture(variant.requires_isa) or variant.requires_isa)}"
    return None


def verify_bundle(folder: Path) -> tuple[BundleManifest, list[SelfTest]]:
    """Checks who signed, rehashes every file, then replays the goldens of every variant that can run here.

    Raises:
        BundleError: a file was altered, or the tokenizer makes other tokens than it did.
        TrustError: it is not signed by anybody who is trusted here.
    """
    manifest = read_bundle(folder)
    return manifest, replay_all(folder, manifest)


def replay_all(folder: Path, manifest: BundleManifest) -> list[SelfTest]:
    """Replays the goldens of every variant; the bundle was read.

    Raises:
        BundleError: the tokenizer makes other tokens here than it did.
    """
    encoded = golden_inputs(folder, manifest)
    return [replay(folder, manifest, variant, encoded) for variant in manifest.variants]


def golden_inputs(folder: Path, manifest: BundleManifest) -> list[Encoded]:
    """The goldens' rows as tokens.

    Raises:
        BundleError: the tokenizer makes other tokens here than it did.
    """
    serving = serving_of(folder, manifest)
    encoded = serving.encode(serving.open_tokenizer(), manifest.goldens.rows)
    if tuple(item.ids for item in encoded) != manifest.goldens.token_ids:
        raise BundleError(f"The tokenizer of {folder} makes other tokens here than where the bundle was made.")
    return encoded


def replay(folder: Path, manifest: BundleManifest, variant: VariantEntry, encoded: Sequence[Encoded]) -> SelfTest:
    """Opens one variant and asks it the goldens."""
    if reason := obstacle(variant):
        return SelfTest(variant, None, reason)
    return ask_goldens(open_variant(folder, variant), serving_of(folder, manifest), variant, encoded)


def ask_goldens(session: Session, serving: Serving, variant: VariantEntry, encoded: Sequence[Encoded]) -> SelfTest:
    """Asks an opened variant the goldens, each alone in its batch as it was when they were made."""
    answers = [session.predict(serving.batch([item], variant.target)) for item in encoded]
    return SelfTest(variant, _difference(answers, variant.golden_outputs))


def _difference(answers: Sequence[Mapping[str, Any]], goldens: Mapping[str, Sequence[Any]]) -> float:
    """Largest absolute difference over all outputs; infinite where one is missing, not finite or of another shape."""
    if not goldens or any(len(expected) != len(answers) for expected in goldens.values()):
        return float("inf")
    worst = 0.0
    for name, expected in goldens.items():
        for answer, value in zip(answers, expected, strict=True):
            found, wanted = np.asarray(answer.get(name)), np.asarray(value)
            if (
                found.dtype == object
                or not found.shape
                or found[0].shape != wanted.shape
                or not np.isfinite(found[0] - wanted).all()
            ):
                return float("inf")
            worst = max(worst, float(np.abs(found[0] - wanted).max()))
    return worst


def open_variant(folder: Path, variant: VariantEntry, threads: int | None = None) -> Session:
    """Opens one variant's graph.

    Raises:
        EnvironmentFault: its runtime is not installed, or this CPU would not give its answers.
    """
    get_runtime(variant.target.runtime).require()
    if reason := obstacle(variant):  # its runtime is installed, so this is of the CPU
        raise EnvironmentFault(
            f"{variant.name} cannot run here: {reason}. Its sums of 8-bit products would overflow.",
            hint="Take a variant whose `requires_isa` in edgebert.json is empty.",
        )
    target = variant.target if threads is None else variant.target.model_copy(update={"threads": threads})
    return get_runtime(target.runtime).open(folder / variant.file, target)
