"""Quantisation by sentence-transformers, which opens a classifier as a CrossEncoder. Runs in its environment.

python run_sentence_transformers.py MODEL_DIR OUT_DIR
"""

from __future__ import annotations

import sys

from sentence_transformers import CrossEncoder, export_dynamic_quantized_onnx_model


def main() -> None:
    """Writes OUT_DIR/onnx/model_qint8_avx512_vnni.onnx."""
    model, out = sys.argv[1:]
    encoder = CrossEncoder(model, backend="onnx", model_kwargs={"export": True}, local_files_only=True)
    export_dynamic_quantized_onnx_model(encoder, "avx512_vnni", out)


if __name__ == "__main__":
    main()
