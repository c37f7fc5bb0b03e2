"""Weights in 8 or 4 bits by blocks, and FP32 activations between the products: where memory matters, not time.

In ONNX Runtime's MatMulNBits, every block of `block_size` weights along a column has a scale and a zero point of its own. Its
`accuracy_level` is the precision of activations in the product: 4 is INT8, rounded block by block at run time, 1 is FP32.
On a 6-layer MiniLM and one thread of a busy CPU, 8-bit weights took 1.9 to 2.5 times as long as FP32 at level 1, and half to
two thirds as long at level 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgebert.core.packages import quiet_libraries
from edgebert.runtimes.facts import ONNX
from edgebert.stages.quantize.method import Method
from edgebert.stages.quantize.settings import Settings


class WeightOnly(Method):
    """INT8 or INT4 weights by blocks, where memory matters, not time."""

    method: Literal["weight-only"] = "weight-only"
    bits: Literal[4, 8] = Field(8, description="Bits of a weight.")
    block_size: Literal[16, 32, 64, 128, 256] = Field(
        32, description="Weights that share a scale. Larger blocks are smaller, faster and less accurate."
    )
    accuracy_level: Literal[1, 4] = Field(
        4, description="Products round activations to INT8 (4), or keep them in FP32 (1), which is much slower."
    )

    format: ClassVar[str] = ONNX
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    repairs: ClassVar[tuple[str, ...]] = ()

    @property
    def weight_bits(self) -> int:
        """As asked for."""
        return self.bits

    @property
    def quantises_tables(self) -> bool:
        """To 4 bits."""
        return self.bits == 4

    @property
    def any_cpu(self) -> bool:
        """FP32 activations are multiplied in FP32."""
        return self.accuracy_level == 1

    @property
    def overflow_fix(self) -> tuple[str, str]:
        """Products in FP32."""
        return "accuracy_level", "Take `accuracy_level: 1`."

    def marks(self, shared: Sequence[str]) -> list[str]:
        """`b128` for the size of a block, `act32` for FP32 activations."""
        return [
            *shared,
            *([f"b{self.block_size}"] if self.is_given("block_size") else []),
            *(["act32"] if self.accuracy_level == 1 else []),
        ]

    def quantize(self, source: Path, target: Path, settings: Settings) -> Mapping[str, Any]:
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
            operators = ("MatMul", "Gather") if settings.embeddings and self.bits == 4 else ("MatMul",)
            config = DefaultWeightOnlyQuantConfig(
                block_size=self.block_size,
                is_symmetric=False,
                accuracy_level=self.accuracy_level,
                op_types_to_quantize=operators,
                bits=self.bits,
            )
            quantizer = MatMulNBitsQuantizer(model, algo_config=config, nodes_to_exclude=list(settings.excluded_nodes))
            quantizer.process()
            quantizer.model.save_model_to_file(str(target / "model.onnx"))
        return {"weight_bits": self.bits}
