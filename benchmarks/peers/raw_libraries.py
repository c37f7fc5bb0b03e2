"""Quantisation with the raw libraries, written as their documentation does. Runs in edgebert's environment.

    python raw_libraries.py LIBRARY --model DIR --train FILE.tsv --samples N --max-length N --out DIR

LIBRARY is onnxruntime (model.onnx, and from it dynamic.onnx, static.onnx, static_products.onnx), nncf (from model.onnx:
openvino_model.xml and nncf.xml) or neural-compressor (neural_compressor.onnx).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Feed = dict[str, np.ndarray[Any, Any]]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def read_feeds(given: argparse.Namespace) -> list[Feed]:
    """Calibration texts one by one, without padding: int64 arrays of shape (1, length)."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(given.model / "tokenizer.json"))
    tokenizer.enable_truncation(given.max_length)
    tokenizer.no_padding()
    titles, *lines = given.train.read_text(encoding="utf-8").splitlines()
    column = titles.split("\t").index("sentence")
    feeds = []
    for line in lines[: given.samples]:
        ids = np.array([tokenizer.encode(line.split("\t")[column]).ids], dtype=np.int64)
        feeds.append(dict(zip(INPUTS, (ids, np.ones_like(ids), np.zeros_like(ids)), strict=True)))
    return feeds


def load(given: argparse.Namespace) -> Any:
    """The classifier, FP32."""
    import torch
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(given.model, dtype=torch.float32).eval()


def example() -> tuple[Any, Any, Any]:
    """Inputs to trace with, shape (2, 8): a size of 1 would be taken for a constant."""
    import torch

    ids = torch.arange(16, dtype=torch.int64).reshape(2, 8)
    return ids, torch.ones_like(ids), torch.zeros_like(ids)


def onnxruntime(given: argparse.Namespace) -> None:
    """Export and both kinds of quantisation, as onnxruntime.ai/docs/performance/model-optimizations shows."""
    import torch
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model, prepared = given.out / "model.onnx", given.out / "prepared.onnx"
    torch.onnx.export(
        load(given),
        (),
        str(model),
        kwargs=dict(zip(INPUTS, example(), strict=True)),
        dynamo=True,
        input_names=list(INPUTS),
        output_names=["logits"],
        dynamic_shapes={name: {0: "batch", 1: "sequence"} for name in INPUTS},
        external_data=False,
    )
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)  # which ends with "Incomplete" on this export
    quantize_dynamic(prepared, given.out / "dynamic.onnx", per_channel=True, weight_type=QuantType.QInt8)

    class Reader(CalibrationDataReader):
        def __init__(self, feeds: list[Feed]) -> None:
            self._feeds: Iterator[Feed] = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self._feeds, None)

    feeds = read_feeds(given)
    # Every operator that it knows, which costs accuracy, and the products and tables alone, which costs speed.
    for name, operators in (("static", None), ("static_products", ["MatMul", "Gemm", "Gather"])):
        quantize_static(
            prepared,
            given.out / f"{name}.onnx",
            Reader(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=operators,
        )


def nncf(given: argparse.Namespace) -> None:
    """Conversion to OpenVINO, and NNCF's post-training quantisation of transformers."""
    from edgebert.core.packages import switch_off_telemetry

    switch_off_telemetry()
    import nncf as library
    import openvino as ov

    graph = ov.convert_model(str(given.out / "model.onnx"))
    ov.save_model(graph, given.out / "openvino_model.xml", compress_to_fp16=False)
    quantized = library.quantize(
        graph,
        library.Dataset(read_feeds(given)),
        model_type=library.ModelType.TRANSFORMER,
        preset=library.QuantizationPreset.MIXED,
        subset_size=given.samples,
    )
    ov.save_model(quantized, given.out / "nncf.xml", compress_to_fp16=False)


def neural_compressor(given: argparse.Namespace) -> None:
    """The PT2E static path, exported to ONNX. It leaves the weights in FP32, behind QuantizeLinear."""
    import torch
    from neural_compressor.torch.export import export
    from neural_compressor.torch.quantization import StaticQuantConfig, convert, prepare

    class Logits(torch.nn.Module):
        """The classifier with tensors as arguments, and its logits as its only result."""

        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits

    shape = {0: torch.export.Dim("batch", min=2, max=512), 1: torch.export.Dim("sequence", min=2, max=given.max_length)}
    prepared = prepare(export(Logits(load(given)), example(), dynamic_shapes=(shape,) * 3), StaticQuantConfig())
    with torch.no_grad():
        for feed in read_feeds(given):  # each text twice, because the traced model wants a batch
            prepared(*(torch.from_numpy(feed[name].repeat(2, axis=0)) for name in INPUTS))
    torch.onnx.export(
        convert(prepared),
        example(),
        str(given.out / "neural_compressor.onnx"),
        dynamo=True,
        input_names=list(INPUTS),
        output_names=["logits"],
        dynamic_shapes=({0: "batch", 1: "sequence"},) * 3,
        external_data=False,
    )


LIBRARIES = {"onnxruntime": onnxruntime, "nncf": nncf, "neural-compressor": neural_compressor}


def main() -> None:
    """Reads the command and runs one library."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=LIBRARIES)
    for name in ("--model", "--train", "--out"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--samples", "--max-length"):
        parser.add_argument(name, type=int, required=True)
    given = parser.parse_args()
    LIBRARIES[given.library](given)


if __name__ == "__main__":
    main()
