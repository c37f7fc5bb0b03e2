"""Weights in 8 or 4 bits by blocks, and FP32 activations between the products: where memory matters, not time.

In ONNX Runtime's MatMulNBits, every block of `block_size` weights along a column has a scale and a zero point of its own. Its
`accuracy_level` is the precision of activations in the product: 4 is INT8, rounded block by block at run time, 1 is FP32.
On a 6-layer MiniLM and one thread of a busy CPU, 8-bit weights took 1.9 to 2.5 times as long as FP32 at level 1, and half to
two thirds as long at level 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgebert.core.packages import quiet_libraries
from edgebert.stages.quantize.settings import Settings


def quantize(source: Path, target: Path, settings: Settings) -> Mapping[str, Any]:
    """Writes model.onnx with blocks of integers for the weights of MatMul and Gemm.

    With `embeddings` and 4 bits, the embedding tables are quantised as well. At 8 bits, for which ONNX Runtime's quantiser
    has no tables, they are INT8 in the source already.
    """
    with quiet_libraries():
        import onnx
        from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
        from onnxruntime.quantization.onnx_model import ONNXModel

        model = onnx.load(source)
        ONNXModel(model).replace_gemm_with_matmul()
        operators = ("MatMul", "Gather") if settings.embeddings and settings.bits == 4 else ("MatMul",)
        config = DefaultWeightOnlyQuantConfig(
            block_size=settings.block_size,
            is_symmetric=False,
            accuracy_level=settings.accuracy_level,
            op_types_to_quantize=operators,
            bits=settings.bits,
        )
        quantizer = MatMulNBitsQuantizer(model, algo_config=config, nodes_to_exclude=list(settings.excluded_nodes))
        quantizer.process()
        quantizer.model.save_model_to_file(str(target / "model.onnx"))
    return {"weight_bits": settings.bits}
