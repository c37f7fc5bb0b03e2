"""Intel's neural-compressor: its PyTorch 2 export path, static INT8, written as a QDQ graph for ONNX Runtime.

torch.export -> prepare, calibrate, convert -> torch.onnx.export -> weights folded to INT8. Linear layers are quantised,
weights to 8 bits by channel and activations to 8 bits by tensor; residual Adds, LayerNorm, softmax and the products inside
attention stay float.
Of four ways to find ranges, neural-compressor's `autotune` takes the first whose score on the rows that choose drops by at most
`max_drop`, else the best. The file that would ship is scored, in ONNX Runtime.

SmoothQuant is not offered: in neural-compressor 3.10, `quantize` with a SmoothQuantConfig imports Intel's extension for
PyTorch, and fails without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgebert.core.packages import quiet_libraries
from edgebert.errors import StageError
from edgebert.runtimes import get_runtime
from edgebert.runtimes.facts import ONNX
from edgebert.runtimes.target import Target
from edgebert.stages.quantize.fold import fold_weights
from edgebert.stages.quantize.method import ScoredProducts
from edgebert.stages.quantize.settings import Settings
from edgebert.stages.quantize.tables import quantize_tables

WAYS = (("minmax", False), ("kl", False), ("minmax", True), ("kl", True))
"""(method for ranges, whether they are symmetric), the likeliest first. `kl` is torchao's histogram observer."""
NOT_QUANTISED = {"w_dtype": "fp32", "act_dtype": "fp32"}


class NeuralCompressor(ScoredProducts):
    """Intel's, from PyTorch to a QDQ graph; it tries ways to find ranges until the score drops by at most `max_drop`."""

    method: Literal["neural-compressor"] = "neural-compressor"

    format: ClassVar[str] = ONNX
    from_graph: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = (
        "torch",
        "transformers",
        "optimum",
        "onnx",
        "onnxscript",
        "onnxruntime",
        "neural_compressor",
        "torchao",
    )

    def quantize(self, source: Path, target: Path, settings: Settings) -> Mapping[str, Any]:
        """Writes model.onnx from a Transformers folder.

        Raises:
            StageError: the model cannot be exported or quantised.
        """
        from edgebert.models.load import load_model
        from edgebert.stages.export import outputs_only

        assert settings.task is not None
        module = outputs_only(load_model(source, settings.task), settings.task.graph_outputs)
        work = _NeuralCompressorWork(self, module, target / "model.onnx", settings)
        try:
            with quiet_libraries():
                return work.run()
        except StageError:
            raise
        except Exception as error:  # torch, torchao and neural-compressor each raise exceptions of their own
            first = (str(error).strip().splitlines() or [error.__class__.__name__])[0]
            raise StageError(f"neural-compressor could not quantise {source}: {first}") from error


@dataclass
class _NeuralCompressorWork:
    """The quantisation of one model into one file."""

    method: NeuralCompressor
    module: Any
    graph: Path
    settings: Settings
    written: Any = None
    """The converted model that the file holds now."""
    scores: list[float] = field(default_factory=list)
    """Scores of FP32 and then of each trial."""

    def run(self) -> Mapping[str, Any]:
        """Writes the file; returns the facts."""
        import torch
        from neural_compressor.torch.export import export

        from edgebert.models.parts import family_of
        from edgebert.stages.export.onnx_graph import EXAMPLE_LENGTH, example_inputs

        longest = family_of(self.module.model).longest_input(self.module.model.config.to_dict())
        example = example_inputs(self.module.inputs, min(EXAMPLE_LENGTH, longest))
        dimensions = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=longest)}
        exported = export(self.module, example, tuple(dimensions for _ in example))
        ways = [self._config(algorithm, symmetric) for algorithm, symmetric in WAYS]
        chosen = self._tuned(exported, ways, example) if self.settings.score else self._converted(exported, ways[0], example)
        if chosen is not self.written:
            self._write(chosen)
        config = next(iter(chosen.qconfig.values()))
        facts = {"calibration_samples": len(self.settings.calibration), "ranges": config.act_algo, "symmetric": config.act_sym}
        return {**facts, "trials": max(len(self.scores) - 1, 0)}

    def _config(self, algorithm: str, symmetric: bool) -> Any:
        from neural_compressor.torch.quantization import StaticQuantConfig

        width = "per_channel" if self.method.per_channel else "per_tensor"
        config = StaticQuantConfig(w_granularity=width, act_algo=algorithm, act_sym=symmetric)
        for name in _linear_modules(self.module, self.settings.excluded_nodes):
            config.set_local(name, StaticQuantConfig(**NOT_QUANTISED))
        return config

    def _converted(self, exported: Any, config: Any, example: tuple[Any, ...]) -> Any:
        from neural_compressor.torch.quantization import convert, prepare

        prepared = prepare(exported, config, example_inputs=example)
        self._calibrate(prepared)
        return convert(prepared)

    def _tuned(self, exported: Any, ways: Sequence[Any], example: tuple[Any, ...]) -> Any:
        from neural_compressor.torch.quantization import TuningConfig, autotune

        fp32 = self._scored(exported)
        # autotune's tolerable loss is a share of the FP32 score.
        tuning = TuningConfig(config_set=list(ways), tolerable_loss=self.method.max_drop / max(fp32, 1e-9))

        def score(model: Any) -> float:
            return self._scored(model) if hasattr(model, "qconfig") else fp32

        return autotune(exported, tuning, score, run_fn=self._calibrate, example_inputs=example)

    def _scored(self, model: Any) -> float:
        assert self.settings.score is not None
        if hasattr(model, "qconfig"):
            self._write(model)
            session = get_runtime("onnxruntime").open(self.graph, Target(runtime="onnxruntime"))
            predict: Callable[..., Mapping[str, Any]] = session.predict
        else:
            predict = self._predict_with(model)
        self.scores.append(self.settings.score(predict))
        return self.scores[-1]

    def _predict_with(self, model: Any) -> Callable[..., Mapping[str, Any]]:
        import torch

        assert self.settings.task is not None
        names = self.settings.task.graph_outputs

        def predict(batch: Mapping[str, Any]) -> Mapping[str, Any]:
            with torch.no_grad():
                values = model(*self._inputs(batch))
            return {name: value.numpy() for name, value in zip(names, values, strict=True)}

        return predict

    def _calibrate(self, prepared: Any) -> None:
        import torch

        with torch.no_grad():
            for batch in self.settings.batches():
                prepared(*self._inputs(batch))

    def _inputs(self, batch: Mapping[str, Any]) -> tuple[Any, ...]:
        """Those of a batch that the model takes, in its order."""
        import torch

        return tuple(torch.from_numpy(batch[name]) for name in self.module.inputs)

    def _write(self, model: Any) -> None:
        """Writes a converted model to the file."""
        from edgebert.models.parts import family_of
        from edgebert.stages.export import onnx_program, write_clean

        assert self.settings.task is not None
        longest = family_of(self.module.model).longest_input(self.module.model.config.to_dict())
        proto = onnx_program(model, self.settings.task, "what neural-compressor made", self.module.inputs, longest=longest)
        fold_weights(proto.graph, reduce_range=bool(self.method.reduce_range))
        _give_modules(proto.graph)
        write_clean(proto, self.graph)
        if self.settings.embeddings:
            quantize_tables(self.graph, self.graph)
        self.written = model


def _linear_modules(module: Any, nodes: Sequence[str]) -> list[str]:
    """Names, below the wrapper, of the Linear modules whose nodes are among these."""
    import torch

    modules = {f"model.{node.rpartition('/')[0]}" for node in nodes}
    return [name for name, part in module.named_modules() if name in modules and isinstance(part, torch.nn.Linear)]


def _give_modules(graph: Any) -> None:
    """Copies metadata to QuantizeLinear and DequantizeLinear from the node that reads them: their own names no module."""
    readers: dict[str, Any] = {}
    for node in reversed(graph.node):
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            reader = readers[node.output[0]]
            del node.metadata_props[:]
            node.metadata_props.extend(reader.metadata_props)
        readers |= dict.fromkeys(node.input, node)
