"""The models that can be measured: a path that a user names becomes models, each with what it needs to answer queries."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgebert.bundle.manifest import MANIFEST, BundleManifest, ManifestEntry
from edgebert.bundle.opened import TOKENIZER, OpenBundle
from edgebert.bundle.predictor import choose_variant
from edgebert.bundle.read import UNLISTED, open_bundle_folder, read_manifest
from edgebert.bundle.self_test import obstacle
from edgebert.bundle.signed_graph import SignedGraph
from edgebert.core.files import local_path
from edgebert.core.progress import Progress
from edgebert.core.store import FileEntry, content_hash, hash_file
from edgebert.errors import EdgebertError, InputError, MissingPackage, SourceError
from edgebert.measure.bench.model_files import graph_files
from edgebert.measure.bench.read_tokenizer import tokenizer_of
from edgebert.models.cut_side import Side
from edgebert.models.families import find_family
from edgebert.models.folder import inspect_model
from edgebert.models.json_file import read_json
from edgebert.models.tensors import label_count
from edgebert.models.weight_files import WEIGHTS, WEIGHTS_INDEX
from edgebert.runtimes import RUNTIMES, get_runtime, openers
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.tasks import TASKS, get_task
from edgebert.tasks.base import Task

GRAPHS_OF_A_FOLDER = tuple(
    name for runtime in RUNTIMES for name in (f"{runtime.hub.folder}/{runtime.model_file}", runtime.model_file)
)
"""Where a folder without safetensors keeps its graph, as Hub clients look for it."""
POSITIONS = 512
"""Longest input in tokens where no file beside the model says it: BERT's."""
VOCABULARY = 100
"""Number of token ids where no file beside the model says it."""
KINDS = (
    f"a bundle ({MANIFEST}), a run (bundle/{MANIFEST}), a Transformers folder (config.json with model.safetensors) "
    f"or a graph ({', '.join(GRAPHS_OF_A_FOLDER)})"
)
"""Everything that a path can be, for messages."""


@dataclass(frozen=True)
class ModelRequest:
    """The user's choice among the models of a path."""

    variants: tuple[str, ...] = ()
    runtime: str | None = None
    tokenizer: Path | None = None
    must: bool = True
    """Whether a runtime that cannot run the model is an error; a baseline may be another kind of model."""


@dataclass(frozen=True)
class BenchModel:
    """One model, and what it needs to answer queries."""

    name: str
    path: Path
    """The path that the user named, absolute."""
    file: Path
    """The file or folder that its runtime opens."""
    target: Target
    """How it runs by default."""
    artifact: str
    size_bytes: int
    task: str | None
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    """Columns that a row of text needs."""
    max_length: int
    pad_id: int
    vocabulary: int
    tokenizer: Path | None
    checked_at: Target | None = None
    """Target that its answers were checked on, for a bundle's variant."""
    truncation_side: Side | None = None
    """Side of a long text that a bundle cuts off; None: as the tokenizer says."""
    signed: SignedGraph | None = None
    """Its files by their signed hashes, for a bundle's: every process that opens it hashes them."""
    tokenizer_sha256: str | None = None
    """What the content of the tokenizer must be, for a bundle's."""
    task_options: Mapping[str, Any] = field(default_factory=dict)
    """The task's options that are not at their defaults."""
    is_described: bool = True
    """Whether a config.json says its longest input, pad id and vocabulary; without one they are BERT's usual ones."""

    @property
    def serving(self) -> Serving | None:
        """How text becomes its batches; None without a tokenizer. A model of no known task takes single texts."""
        if self.tokenizer is None:
            return None
        task = self.answered_task
        known = (self.labels, self.max_length, self.pad_id, self.tokenizer, self.truncation_side, self.tokenizer_sha256)
        return Serving(task, *known)

    @property
    def answered_task(self) -> Task:
        """Its task with its options; the first task for a model of no known one."""
        return get_task(self.task, self.task_options) if self.task else TASKS[0]


def find_models(name: str, wanted: ModelRequest, progress: Progress) -> list[BenchModel]:
    """The models of a path: one, or one for each variant that is wanted of a bundle.

    Raises:
        SourceError: there is no model.
        BundleError: a bundle is incomplete or altered.
        EnvironmentFault: a package that runs it is not installed.
    """
    path = local_path(name, Path.cwd())
    if not path.exists():
        hint = "Name a bundle, a run's folder, an .onnx or .xml file, or a Transformers folder; bench downloads nothing."
        raise SourceError(f"There is no {name}.", hint=hint)
    if not path.is_dir():
        return [_graph_model(path, path, wanted)]
    for folder in (path, path / "bundle"):
        if any(os.path.lexists(folder / name) for name in UNLISTED):  # whatever they are: only a bundle has either
            return _bundle_models(folder, path, wanted, progress)
    if _is_transformers(path) and not (wanted.runtime and _graphs_of(path)):
        if wanted.runtime and wanted.must:
            raise SourceError(
                f"{path.name} has no graph for {wanted.runtime}: torch runs its safetensors.", hint="Drop --runtime."
            )
        if wanted.runtime:
            progress.note(f"{path.name} is run by torch: it has no graph, so --runtime {wanted.runtime} chooses nothing there")
        return [_torch_model(path)]
    return [_graph_model(_graph_of(path, wanted), path, wanted)]


def named_apart(models: Sequence[BenchModel]) -> list[BenchModel]:
    """The models with unique names: models of one name get the last folders of their paths before it that tell them apart."""
    named = list(models)
    for name in {item.name for item in models}:
        same = [index for index, item in enumerate(models) if item.name == name]
        if len(same) > 1:
            prefixes = _prefixes([models[index] for index in same])
            for number, (index, prefix) in enumerate(zip(same, prefixes, strict=True), start=1):
                named[index] = replace(models[index], name=f"{prefix}/{name}" if prefix else f"{name}-{number}")
    return named


def _prefixes(models: Sequence[BenchModel]) -> list[str]:
    """For each model the last parts of its folder in which it differs from all others; empty where two have one folder."""
    folders = [item.path if item.path.is_dir() else item.path.parent for item in models]
    for depth in range(1, max(len(folder.parts) for folder in folders)):
        tails = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(tails)) == len(tails):
            return tails
    return [""] * len(folders)


def _bundle_models(folder: Path, path: Path, wanted: ModelRequest, progress: Progress) -> list[BenchModel]:
    with open_bundle_folder(folder) as bundle:
        bundle.check_contents()
        chosen = _variants(bundle.manifest, wanted)
        _tell_another(bundle.manifest, chosen, wanted, progress)
        return [_variant_model(bundle, path, variant) for variant in chosen]


def _tell_another(manifest: BundleManifest, chosen: Sequence[ManifestEntry], wanted: ModelRequest, progress: Progress) -> None:
    """A note where the selected variant cannot run here, and nobody asked for another."""
    if not wanted.variants and wanted.runtime is None and chosen[0].name != manifest.selected:
        selected = manifest.variant(manifest.selected)
        assert selected is not None  # `open_bundle_folder` saw to it
        progress.note(f"{selected.name} was selected, but {obstacle(selected)}; {chosen[0].name} is measured instead")


def _variants(manifest: BundleManifest, wanted: ModelRequest) -> list[ManifestEntry]:
    if wanted.variants:
        found = [choose_variant(manifest, name) for name in dict.fromkeys(wanted.variants)]
        if strange := [item.name for item in found if wanted.runtime not in (None, item.target.runtime)]:
            raise InputError(f"The variant {strange[0]} does not run on {wanted.runtime}.", hint="Drop --runtime or --variant.")
        return found
    if wanted.runtime is None:
        return [choose_variant(manifest)]
    of_runtime = [item for item in manifest.variants if item.target.runtime == wanted.runtime]
    if not of_runtime:
        known = ", ".join(item.name for item in manifest.variants)
        raise InputError(f"The bundle {manifest.name} has no variant for {wanted.runtime}.", hint=f"It has: {known}")
    best = sorted(
        of_runtime, key=lambda item: (item.name != manifest.selected, item.status != "PASSED", item.role != "baseline")
    )
    return [choose_variant(manifest, best[0].name)]


def _variant_model(bundle: OpenBundle, path: Path, variant: ManifestEntry) -> BenchModel:
    folder, manifest, serving = bundle.folder, bundle.manifest, bundle.serving
    signed = bundle.signed_graph(variant.file)
    return BenchModel(
        name=variant.name,
        path=path,
        file=folder / variant.file,
        target=variant.target,
        artifact=variant.artifact,
        size_bytes=sum(entry.size for entry in signed.files.values()),
        task=manifest.task,
        task_options=manifest.task_options,
        labels=manifest.labels,
        columns=tuple(sorted(manifest.goldens.rows[0])),
        max_length=manifest.max_length,
        pad_id=manifest.pad_id,
        vocabulary=int(read_json(folder / "config.json").get("vocab_size", VOCABULARY)),
        tokenizer=serving.tokenizer,
        truncation_side=serving.truncation_side,
        signed=signed,
        tokenizer_sha256=manifest.files[TOKENIZER].sha256,
        checked_at=variant.target,
    )


def _is_transformers(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any((folder / name).is_file() for name in (WEIGHTS, WEIGHTS_INDEX))


def _torch_model(folder: Path) -> BenchModel:
    model = inspect_model(folder)
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(package, needed_for=f"Running the Transformers folder {folder}")
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        hint = "Write it: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        raise SourceError(f"{folder} has no tokenizer.json.", hint=hint)
    contents = {name: folder / name for name in (*model.weight_files, "config.json")}
    task = _task_of(model.config)
    task = task if task and model.has_head(get_task(task)) else None  # answers of another head would be scored as labels
    return BenchModel(
        name=folder.name,
        path=folder,
        file=folder,
        target=Target(runtime="torch"),
        **_hashed(contents),
        task=task,
        labels=model.labels if task and get_task(task).has_labels else (),
        columns=("text",),
        max_length=model.max_length(),
        pad_id=int(model.config.get("pad_token_id") or 0),
        vocabulary=int(model.config.get("vocab_size", VOCABULARY)),
        tokenizer=tokenizer_of(model),
    )


def _graphs_of(folder: Path) -> list[Path]:
    return [folder / name for name in GRAPHS_OF_A_FOLDER if (folder / name).is_file()]


def _graph_of(folder: Path, wanted: ModelRequest) -> Path:
    found = _graphs_of(folder)
    usable = [file for file in found if wanted.runtime in (None, *_runtimes_of(file))]
    if usable:
        return usable[0]
    if found:
        raise InputError(f"{folder} has nothing that {wanted.runtime} opens.", hint=f"It has {found[0]}.")
    if (folder / "config.json").is_file():
        inspect_model(folder)  # says what a Transformers folder lacks
    others = sorted(file for runtime in RUNTIMES for file in folder.glob(f"*{runtime.ending}"))
    hint = f"Did you mean {others[0]}?" if others else f"Looked for: {KINDS}."
    raise SourceError(f"{folder} is no model that can be measured.", hint=hint)


def _graph_model(file: Path, path: Path, wanted: ModelRequest) -> BenchModel:
    runtimes = _runtimes_of(file)
    if not runtimes:
        hint = "Name an .onnx file, the .xml of an OpenVINO IR, or the folder of a bundle or of a Transformers model."
        kinds = " nor ".join(runtime.file_title for runtime in RUNTIMES)
        raise SourceError(f"{file} is neither {kinds}, by its ending.", hint=hint)
    runtime = wanted.runtime or runtimes[0]
    if runtime not in runtimes:
        raise InputError(
            f"{file} does not run on {runtime}.", hint=f"Drop --runtime; {file.suffix} runs on {' or '.join(runtimes)}."
        )
    files = graph_files(file)
    get_runtime(runtime).require()
    config, tokenizer = _beside(file, "config.json"), wanted.tokenizer or _beside(file, "tokenizer.json")
    known = _config_facts(config)
    return BenchModel(
        name=file.stem if path == file else path.name,
        path=path,
        file=file,
        target=Target.model_validate({"runtime": runtime}),
        **{**_hashed(files), **_artifact_of(file)},
        **known,
        columns=("text",),
        tokenizer=tokenizer,
        is_described=config is not None,
    )


def _runtimes_of(file: Path) -> list[str]:
    """Names of the runtimes that open a graph's file, the usual one first."""
    return [runtime.name for runtime in openers(file.suffix)]


def _longest_input(config: Mapping[str, Any]) -> Any:
    """Tokens that the position table has rows for, where config.json says it: not all rows of some families carry a token."""
    rows, family = config.get("max_position_embeddings"), find_family(config.get("model_type"))
    return rows - family.first_position(config) if family and isinstance(rows, int | float) else rows


def _config_facts(file: Path | None) -> dict[str, Any]:
    """Task, labels, longest input, pad id and size of the vocabulary, as far as config.json and its neighbours have them."""
    config = read_json(file) if file else {}
    limit = None
    if file and (file.parent / "tokenizer_config.json").is_file():
        limit = read_json(file.parent / "tokenizer_config.json").get("model_max_length")
    limits = [value for value in (_longest_input(config), limit) if isinstance(value, int | float) and value < 1e9]
    names = config.get("id2label")
    task = _task_of(config)
    return {
        "task": task,
        "labels": tuple(str(names[key]) for key in sorted(names, key=_number_first))
        if task and isinstance(names, dict)
        else (),
        "max_length": int(min(limits, default=POSITIONS)),
        "pad_id": _whole(config.get("pad_token_id"), 0),
        "vocabulary": _whole(config.get("vocab_size"), VOCABULARY),
    }


def _number_first(key: str) -> tuple[int, str]:
    return (int(key) if key.isdecimal() else len(key), key)


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _task_of(config: Any) -> str | None:
    """Name of the task whose models have the class that config.json names."""
    classes = config.get("architectures")
    named = str(classes[0]) if isinstance(classes, list) and classes else ""
    plain = ("Model", "ForMaskedLM")  # an encoder that may become anything
    of_class = [task for task in TASKS if named.endswith(task.architecture) and task.architecture not in plain]
    return next((task.name for task in of_class if not task.model_fault(config, label_count(config))), None)


def _beside(file: Path, name: str) -> Path | None:
    """A file of that name beside a graph, or one folder up as in a Hub folder."""
    return next((folder / name for folder in (file.parent, file.parent.parent) if (folder / name).is_file()), None)


def _artifact_of(file: Path) -> dict[str, str]:
    """The artifact of a graph that lies unaltered in its bundle, where graphs name who made them; an artifact's do not."""
    for folder in (file.parent, file.parent.parent):
        with contextlib.suppress(EdgebertError):  # a folder that is no bundle
            manifest, name = read_manifest(folder), file.relative_to(folder).as_posix()
            made = [item.artifact for item in manifest.variants if item.file == name]
            if made and name in manifest.files and manifest.files[name].sha256 == hash_file(file):
                return {"artifact": made[0]}
    return {}


def _hashed(files: dict[str, Path]) -> dict[str, Any]:
    """Hash and size of a model's files. The hash is that of an artifact with just these files."""
    entries = {name: FileEntry(sha256=hash_file(file), size=file.stat().st_size) for name, file in files.items()}
    return {"artifact": content_hash(entries), "size_bytes": sum(entry.size for entry in entries.values())}
