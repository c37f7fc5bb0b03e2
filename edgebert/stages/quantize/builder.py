"""Builder: makes the graphs and INT8 files of a search, each once, in a folder that survives a kill."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebert.core.store import Artifact, content_hash, hash_folder, hash_json, sync_folder
from edgebert.errors import EdgebertError, StageError
from edgebert.models.families import family_of_config
from edgebert.models.families.base import Family
from edgebert.models.json_file import read_json
from edgebert.runtimes import get_runtime
from edgebert.runtimes.facts import ONNX
from edgebert.runtimes.target import Target
from edgebert.stages.base import RunContext
from edgebert.stages.export import Rewrite
from edgebert.stages.quantize.repair import NOT_IN_WEIGHTS, WEIGHT_REPAIRS
from edgebert.stages.quantize.settings import Settings
from edgebert.stages.quantize.tables import quantize_tables
from edgebert.stages.scorer import Scorer

if TYPE_CHECKING:
    from edgebert.stages.quantize.method import Method

TABLES = "tables.onnx"


@dataclass(frozen=True)
class Form:
    """The rewrites and repairs of a model before it is quantised."""

    rewrites: tuple[Rewrite, ...] = ()
    repairs: tuple[str, ...] = ()
    """Names of repairs in `repair.py`, in order."""


@dataclass(frozen=True)
class Plan:
    """What decides an INT8 file: form, method, settings and nodes that stay FP32."""

    form: Form
    method: type[Method]
    settings: tuple[tuple[str, Any], ...] = ()
    """Parameters of the method that differ from its defaults."""
    excluded_nodes: tuple[str, ...] = ()

    def with_form(self, **changes: Any) -> Plan:
        """The plan with changes of its form."""
        return Plan(Form(**{**self.form.__dict__, **changes}), self.method, self.settings, self.excluded_nodes)

    @property
    def key(self) -> str:
        """A short hash, different for different plans."""
        return hash_json([self.form.__dict__, self.method.method_name(), list(self.settings), list(self.excluded_nodes)])[:16]


@dataclass
class Builder:
    """Makes the files of one model for one target."""

    source: Artifact
    context: RunContext
    target: Target
    common: Mapping[str, Any]
    """Parameters that all files share: `per_channel`, `embeddings` and `reduce_range`."""
    max_drop: float
    """Largest drop of the score, for methods that use the score."""
    models: dict[tuple[str, ...], Any] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    """Names of the folders that this process made, or compared with their hash."""

    @cached_property
    def folder(self) -> Path:
        """Folder that keeps the files until the search is over."""
        folder = self.context.work / "search"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def family(self) -> Family:
        """The family of the model."""
        return family_of_config(read_json(self.source.path / "config.json"))

    def model(self, repairs: tuple[str, ...]) -> Any:
        """The torch model with these repairs."""
        if repairs not in self.models:
            if repairs:
                repaired = copy.deepcopy(self.model(repairs[:-1]))
                WEIGHT_REPAIRS[repairs[-1]](repaired, self.batches, 7 if self.common["reduce_range"] else 8)
                self.models[repairs] = repaired
            else:
                from edgebert.models.load import load_model

                self.models[repairs] = load_model(self.source.path, self.context.task)
        return self.models[repairs]

    @cached_property
    def batches(self) -> list[Mapping[str, Any]]:
        """Calibration texts as torch tensors, one text a batch."""
        import torch

        settings = self.settings()
        return [{name: torch.from_numpy(value) for name, value in batch.items()} for batch in settings.batches()]

    def settings(self, **fields: Any) -> Settings:
        """Settings of the run, and these fields."""
        context = self.context
        of_run = {"calibration": tuple(context.calibration), "task": context.task, "labels": context.labels}
        return Settings(**{**of_run, "embeddings": self.common.get("embeddings", True), **fields})

    def method(self, plan: Plan) -> Method:
        """The method of a plan with its parameters: of those that all files share, it takes those that it has."""
        wanted = {**self.common, "max_drop": self.max_drop, **dict(plan.settings)}
        own = {name: value for name, value in wanted.items() if name in plan.method.parameters()}
        return plan.method().model_copy(update=own)  # not validated: a gate may allow any drop

    def onnx(self, form: Form) -> Path:
        """The FP32 graph of a form.

        Raises:
            StageError: a rewrite changes the answers.
        """
        from edgebert.stages.export import export_model

        def make(folder: Path) -> None:
            model = self.model(form.repairs)
            export_model(model, self.context.task, folder / "model.onnx", name="the model", rewrites=form.rewrites)

        return self._once(f"onnx-{hash_json(form.__dict__)[:16]}", make) / "model.onnx"

    def graph(self, form: Form) -> Path:
        """The FP32 graph in the format of the target's runtime."""
        runtime = get_runtime(self.target.runtime)
        if runtime.format == ONNX:
            return self.onnx(form)

        def make(folder: Path) -> None:
            runtime.convert(self.onnx(form), folder)

        return self._once(f"{runtime.format}-{hash_json(form.__dict__)[:16]}", make) / runtime.model_file

    def quantized(self, plan: Plan) -> Path:
        """The INT8 file of a plan.

        Raises:
            StageError: the method fails.
        """
        method = self.method(plan)
        score = Scorer.of(self.context.serving(self.source), self.context.data["select"]) if method.scored else None
        settings = self.settings(score=score, excluded_nodes=plan.excluded_nodes)

        def make(folder: Path) -> None:
            source = self._source(plan, method, folder)
            try:
                method.quantize(source, folder, settings)
            except (EdgebertError, OSError, MemoryError):
                raise
            except Exception as error:  # each library raises exceptions of its own
                first = (str(error).strip().splitlines() or [""])[0]
                raise StageError(f"{method.method_name()} failed: {error.__class__.__name__}: {first}") from error
            (folder / TABLES).unlink(missing_ok=True)

        name = get_runtime(self.target.runtime).model_file
        return self._once(f"int8-{plan.key}", make) / name

    def _source(self, plan: Plan, method: Method, folder: Path) -> Path:
        """The source of the method; in an ONNX graph, embedding tables are INT8 already."""
        if not method.from_graph:
            return self.weights(plan.form)
        graph = self.graph(plan.form)
        if method.format != ONNX or method.quantises_tables or not self.common.get("embeddings", True):
            return graph
        quantize_tables(graph, folder / TABLES)
        return folder / TABLES

    def weights(self, form: Form) -> Path:
        """A Transformers folder with the repairs of a form that saved weights can hold."""
        repairs = tuple(name for name in form.repairs if name not in NOT_IN_WEIGHTS)
        if not repairs:
            return self.source.path

        def make(folder: Path) -> None:
            from edgebert.models.load import copy_tokenizer, save_model

            save_model(self.model(repairs), folder)
            copy_tokenizer(self.source.path, folder)

        return self._once(f"weights-{'-'.join(repairs)}", make)

    def drop(self, plan: Plan) -> None:
        """Deletes the file of a plan."""
        folder, gone = self.folder / f"int8-{plan.key}", self.folder / f"int8-{plan.key}.gone"
        if folder.is_dir():
            shutil.rmtree(gone, ignore_errors=True)
            self.whole.discard(folder.name)
            folder.rename(gone)  # a kill during the deletion must not leave half a folder of that name
            shutil.rmtree(gone, ignore_errors=True)

    def remembered(self, name: str, measure: Callable[[], Any]) -> Any:
        """The measurement of that name, as JSON values: one from before a kill, or made now."""
        file = self.folder / f"{hash_json(name)[:16]}.json"
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):  # a power cut leaves an empty file
            kept = json.loads(file.read_text())
            if hash_json([name, kept["value"]]) == kept["sha256"]:
                return kept["value"]
        measured = measure()
        value = json.loads(json.dumps(measured))
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps({"value": value, "sha256": hash_json([name, value])}))
        draft.replace(file)
        return measured

    def _once(self, name: str, make: Callable[[Path], None]) -> Path:
        """The folder of that name, filled by `make` unless it is there with the content that was written."""
        folder, seal = self.folder / name, self.folder / f"{name}.sha256"
        if name not in self.whole and not _is_whole(folder, seal):
            shutil.rmtree(folder, ignore_errors=True)
            draft = self.folder / f"{name}.draft"
            shutil.rmtree(draft, ignore_errors=True)  # left by a killed run
            draft.mkdir()
            make(draft)
            sync_folder(draft)
            seal.write_text(content_hash(hash_folder(draft)))
            draft.rename(folder)
        self.whole.add(name)
        return folder


def _is_whole(folder: Path, seal: Path) -> bool:
    """Whether a folder of a killed run has the content that was written into it."""
    try:
        return folder.is_dir() and seal.read_text() == content_hash(hash_folder(folder))
    except (OSError, ValueError):  # an older version wrote no seal, a power cut leaves half of one
        return False
