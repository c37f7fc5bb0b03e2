"""Quantisation by Olive: conversion, its transformer optimisation for BERT, dynamic quantisation. Runs in Olive's environment.

python run_olive.py MODEL_DIR OUT_DIR
"""

from __future__ import annotations

import sys

from olive import run

CPU = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}


def main() -> None:
    """Writes OUT_DIR/model.onnx."""
    model, out = sys.argv[1:]
    run(
        {
            # Its attention fusion knows the graph of eager attention from the TorchScript exporter.
            "input_model": {
                "type": "HfModel",
                "model_path": model,
                "task": "text-classification",
                "load_kwargs": {"attn_implementation": "eager"},
            },
            "systems": {"local": {"type": "LocalSystem", "accelerators": [CPU]}},
            "passes": {
                "conversion": {"type": "OnnxConversion", "target_opset": 17, "use_dynamo_exporter": False},
                "transformers": {"type": "OrtTransformersOptimization", "model_type": "bert"},
                "quantization": {"type": "OnnxDynamicQuantization", "per_channel": True},
            },
            "host": "local",
            "target": "local",
            "cache_dir": f"{out}/cache",
            "output_dir": out,
            "evaluate_input_model": False,
            "no_artifacts": True,
        }
    )


if __name__ == "__main__":
    main()
