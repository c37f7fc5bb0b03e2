"""edgebert: a fine-tuned BERT in, the fastest INT8 model that still passes its gates out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgebert.predictor import Predictor

# ONNX Runtime's builds for Linux and macOS send telemetry to Microsoft by themselves, and look at this when they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(bundle: str | Path, *, variant: str | None = None, threads: int | None = None) -> Predictor:
    """Opens a bundle for prediction: `edgebert.load("runs/quickstart/bundle")("a fine film")`.

    Args:
        bundle: folder that `edgebert compress` wrote.
        variant: name of the variant to run; by default the one that the verdict selected.
        threads: threads for one query; by default the number that the variant was measured with.

    Raises:
        BundleError: the folder is not a bundle, or a file was altered.
        EnvironmentFault: no runtime here can open it.
    """
    from edgebert.predictor import load_predictor

    return load_predictor(Path(bundle), variant=variant, threads=threads)
