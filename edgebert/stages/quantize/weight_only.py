"""Weights in 8 or 4 bits by blocks, activations FP32 between the products: for where memory is the budget, not time.

ONNX Runtime's MatMulNBits: every block of `block_size` weights along a column has a scale and a zero point of its own. Its
`accuracy_level` 4 lets the kernel round activations to INT8, block by block and at run time; 1 keeps them FP32, which ONNX
Runtime's operator documentation calls the higher accuracy. On x86 the 8-bit kernel exists for level 4 only: level 1 unpacks
every weight for every query, and takes several times as long as FP32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgebert.quiet import quiet_libraries
from edgebert.stages.quantize.settings import Settings


def quantize(source: Path, target: Path, settings: Settings) -> Mapping[str, Any]:
    """Writes model.onnx with blocks of integers for the weights of MatMul and Gemm.

    Where asked, 4 bits by blocks go for embedding tables too. ONNX Runtime's quantiser has no 8 bits for them; those, by
    rows, the source has already.
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
        quantizer = MatMulNBitsQuantizer(model, algo_config=config, nodes_to_exclude=list(settings.keep_float))
        quantizer.process()
        quantizer.model.save_model_to_file(str(target / "model.onnx"))
    return {"weight_bits": settings.bits}
