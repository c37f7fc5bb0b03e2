"""Writes a bundle: model files, a graph for each entry, report, model card, manifest, signature."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgebert.bundle.manifest import MADE, MANIFEST, TOLERANCE, BundleManifest, GoldenInputs, ManifestEntry
from edgebert.bundle.parts import BundleEntry, BundleParts, PlannedEntry
from edgebert.bundle.stamp import stamp
from edgebert.bundle.usage import snippets
from edgebert.core.packages import package_version
from edgebert.core.store import hash_folder
from edgebert.errors import EnvironmentFault, InputError, MissingPackage
from edgebert.models.cut_side import cut_side
from edgebert.models.families import TOKENIZER_FILES, family_of_config, find_family
from edgebert.models.sentence_files import write_modules, write_settings
from edgebert.models.sentence_folder import is_sentence_folder, read_sentence_folder
from edgebert.models.served_tokenizer import write_served_tokenizer
from edgebert.report.file import write_report
from edgebert.report.report import Report
from edgebert.report.text.disturbances import disturbance_lines
from edgebert.report.text.labels import label_rows, named_labels
from edgebert.report.text.removed import removal_lines
from edgebert.report.text.run_table import markdown_table, unsure_line, verdict_lines
from edgebert.report.text.search import advice_lines, choice_lines, sensitivity_lines, trial_rows
from edgebert.report.text.selection import selection_lines
from edgebert.runtimes import get_runtime
from edgebert.runtimes.isa import EXACT
from edgebert.runtimes.target import Isa
from edgebert.tasks.embedding import Embedding
from edgebert.version import __version__

HERE = Path(__file__).parent
MODEL_FILES = ("config.json", *(name for name in TOKENIZER_FILES if name != "added_tokens.json"))


def write_bundle(folder: Path, parts: BundleParts, *, note: Callable[[str], None] = lambda line: None) -> None:
    """Writes a bundle into a new folder, and signs it with the own key.

    Args:
        note: called with the reason if the bundle cannot be signed; it is complete, and can be signed later.
    """
    folder.mkdir(parents=True)
    _copy_model_files(parts, folder)
    variants = [_write_variant(folder, variant, variant_file(variant, parts), parts.recipe) for variant in parts.variants]
    write_report(folder / "report.json", parts.report)
    (folder / "README.md").write_text(model_card(parts, variants), encoding="utf-8")
    goldens = next(item.goldens for item in parts.variants if item.planned.name == parts.verdict.best.entry.name)
    manifest = BundleManifest(
        edgebert_version=__version__,
        name=parts.name,
        task=parts.serving.task.name,
        task_options=parts.serving.task.options.changed(),
        labels=parts.serving.labels,
        max_length=parts.serving.max_length,
        pad_id=parts.serving.pad_id,
        truncation_side=cut_side(folder / "tokenizer.json"),
        files=hash_folder(folder),
        variants=tuple(variants),
        selected=parts.verdict.best.entry.name,
        verdict="PASSED" if parts.verdict.passed else "FAILED",
        reasons=parts.verdict.best.failures,
        goldens=GoldenInputs(rows=tuple(goldens.rows), token_ids=tuple(map(tuple, goldens.token_ids))),
        lineage=_dated(parts.lineage),
    )
    usual = {"truncation_side": manifest.truncation_side == "right", "task_options": not manifest.task_options}
    unsaid = {name for name, is_usual in usual.items() if is_usual}  # older versions refuse what they do not know
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1, exclude=unsaid))
    _sign(folder, note)


def _dated(lineage: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The lineage, whose first entry says when the bundle was written."""
    now = {MADE: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    return tuple({**entry, **(now if index == 0 else {})} for index, entry in enumerate(lineage))


def _sign(folder: Path, note: Callable[[str], None]) -> None:
    from edgebert.bundle.trust.sign import sign_bundle

    try:
        sign_bundle(folder)
    except (EnvironmentFault, InputError) as error:  # an unusable own key is no reason to lose the measurements
        note(f"the bundle is not signed, so it does not load: {error.message} Sign it later: edgebert keys sign BUNDLE")


def _copy_model_files(parts: BundleParts, folder: Path) -> None:
    for name in MODEL_FILES:
        if name in parts.model.manifest.files:
            parts.model.copy_file(name, folder / name)
    config = plain_config(json.loads((folder / "config.json").read_text()))
    if labels := parts.serving.labels:
        config["id2label"] = {str(index): label for index, label in enumerate(labels)}
        config["label2id"] = {label: index for index, label in enumerate(labels)}
    config |= parts.serving.task.config_fields()
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_served_tokenizer(folder, parts.serving.max_length)
    _write_sentence_files(parts, folder, config)


def _write_sentence_files(parts: BundleParts, folder: Path, config: dict[str, Any]) -> None:
    """Makes the bundle of a task without a head a folder of sentence-transformers."""
    task = parts.serving.task
    if not isinstance(task, Embedding):
        return
    source, options = parts.model.path, task.options
    dense = read_sentence_folder(source).dense if is_sentence_folder(source) else ()
    for layer in dense:
        (folder / layer.folder).mkdir()
        for name in ("config.json", "model.safetensors"):
            parts.model.copy_file(f"{layer.folder}/{name}", folder / layer.folder / name)
    width = int(family_of_config(config).with_sizes(config)["hidden_size"])
    write_modules(folder, options.pooling or "mean", dense, width=width, normalize=options.normalize is not False)
    write_settings(folder, options.prompts or {}, options.prompt, parts.serving.max_length)


def plain_config(config: dict[str, Any]) -> dict[str, Any]:
    """A pruned model's config as a plain one's of its family, for clients that read it beside the graph without edgebert.

    The keys with the sizes of each layer stay; these clients ignore them. The numbers of heads and FFN neurons are the original
    model's, so that a plain model can be built from the config.
    """
    family = find_family(config.get("model_type"))
    if family is None or config["model_type"] != family.pruned_type:
        return config
    classes = [name.removeprefix("Pruned") for name in config.get("architectures") or []]
    return {**config, "model_type": family.model_type, "architectures": classes}


def _write_variant(folder: Path, variant: BundleEntry, file: str, recipe: str) -> ManifestEntry:
    planned, judged = variant.planned, variant.judged
    runtime = get_runtime(planned.target.runtime)
    (folder / file).parent.mkdir(exist_ok=True)
    stem = Path(runtime.model_file).stem
    for name in planned.artifact.manifest.files:  # an .xml and its .bin have the same stem, before and after
        renamed = (folder / file).parent / name.replace(stem, Path(file).stem, 1)
        planned.artifact.copy_file(name, renamed)
    if planned.precision == "int8":
        stamp(folder / file, runtime.container, recipe)
    return ManifestEntry(
        name=planned.name,
        role="baseline" if judged is None else "candidate",
        precision=planned.precision,
        target=planned.target,
        file=file,
        artifact=planned.artifact.sha256,
        status="BASELINE" if judged is None else "PASSED" if judged.passed else "FAILED",
        reasons=judged.failures if judged else (),
        requires={runtime.package: package_version(runtime.package)},
        requires_isa=required_isa(planned),
        tolerance=TOLERANCE[planned.precision],
        golden_outputs={name: tuple(values) for name, values in variant.goldens.outputs.items()},
    )


def required_isa(planned: PlannedEntry) -> tuple[Isa, ...]:
    """Instruction sets of which the CPU needs one, or INT8 sums saturate; empty if any CPU will do."""
    return () if planned.precision == "fp32" or planned.artifact.facts.get("any_cpu") else EXACT


def variant_file(variant: BundleEntry, parts: BundleParts) -> str:
    """Name of a graph's file. FP32 and the best candidate of each runtime get the names that Hub clients look for."""
    runtime = variant.planned.target.runtime
    hub = get_runtime(runtime).hub
    folder, stem, best = hub.folder, hub.stem, hub.best
    ending = best.rsplit(".", 1)[1]
    if variant.judged is None:
        return f"{folder}/{stem}.{ending}"
    rivals = [other for other in parts.variants if other.judged and other.planned.target.runtime == runtime]
    fastest = min(rivals, key=lambda other: _speed_rank(other, parts))
    if variant.planned.artifact.key == fastest.planned.artifact.key:
        if variant.planned.precision == "int8":
            return f"{folder}/{best}"
        baselines = [other for other in parts.variants if other.judged is None]
        if not any(other.planned.target.runtime == runtime for other in baselines):
            return f"{folder}/{stem}.{ending}"
    target, _, label = variant.planned.name.rpartition("/")  # the entry's label; two steps of a recipe may have one stage name
    namesakes = [other for other in rivals if other.planned.name.rpartition("/")[2] == label]
    if any(other.planned.artifact.key != variant.planned.artifact.key for other in namesakes):
        label += target.removeprefix(runtime)  # each target has a search of its own, with the same label
    return f"{folder}/{stem}_{re.sub(r'[^a-z0-9]+', '_', label)}.{ending}"


def _speed_rank(variant: BundleEntry, parts: BundleParts) -> tuple[bool, float]:
    assert variant.judged is not None
    p50 = variant.judged.entry.percentile_ms(50)
    return (not variant.judged.passed, p50 if p50 is not None else float("inf"))


def model_card(parts: BundleParts, variants: Sequence[ManifestEntry]) -> str:
    """README.md of a bundle: the table of measurements, and the gates."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingPackage("jinja2", needed_for="Writing the model card") from error
    # The text is Markdown, where HTML escapes would be visible.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([HERE, HERE / "usage"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    environment.filters["oneline"] = lambda text: " ".join(str(text).replace("|", "/").split())
    report = parts.report
    row = min(parts.variants[0].goldens.rows, key=lambda texts: sum(map(len, texts.values())))
    return environment.get_template("model_card.md.j2").render(
        parts=parts,
        report=report,
        edgebert_version=__version__,
        snippets=snippets(
            parts.serving,
            variants,
            parts.verdict.best.entry.name,
            row,
            lambda name, **values: environment.get_template(name).render(**values),
        ),
        variants=variants,
        table=markdown_table(report, parts.verdict),
        selection_lines=selection_lines(report),
        doubts=[line for line in (unsure_line(parts.verdict), *disturbance_lines(report)) if line],
        named_labels=named_labels(parts.serving.labels),
        label_rows=label_rows(report, parts.verdict.best.entry),
        verdict_lines=verdict_lines(parts.verdict),
        removal_lines=removal_lines(report, parts.verdict.best.entry),
        searched=[entry for entry in report.entries if entry.search],
        choice_lines=choice_lines,
        trial_rows=trial_rows,
        sensitivity_lines=sensitivity_lines,
        advice_lines=advice_lines(report, parts.verdict),
        intermediates=any(entry.role == "intermediate" for entry in report.entries),
        cut_fp32=[variant.file for variant in variants if variant.role == "baseline" and _is_cut(variant, report)],
        missing_fp32=all(variant.role != "baseline" for variant in variants),
        queries=len(parts.verdict.best.entry.latencies_ms()),
        eval_examples=report.examples,
    )


def _is_cut(variant: ManifestEntry, report: Report) -> bool:
    """Whether an FP32 graph is that of a cut model, and not what candidates are compared with."""
    return variant.name not in {entry.name for entry in report.entries if entry.role == "baseline"}
