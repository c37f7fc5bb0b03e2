"""edgebert: a fine-tuned BERT in, the fastest INT8 model that still passes its gates out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgebert.core.former_names import forward_former_names
from edgebert.version import __version__

if TYPE_CHECKING:
    from edgebert.bundle.predictor import Predictor

# ONNX Runtime's builds for Linux and macOS send telemetry to Microsoft unless this is set when they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
forward_former_names()

__all__ = ["__version__", "load"]


def load(
    place: str | Path, *, variant: str | None = None, threads: int | None = None, watch: bool | float = False
) -> Predictor:
    """Opens a model for prediction: `edgebert.load("runs/quickstart/bundle")("a fine film")`.

    Args:
        place: folder of a bundle, as `edgebert compress` writes it; or on a device the folder that `edgebert ship` fills, or
            its `current`. The link is followed once: a later switch changes nothing for this predictor, unless it watches.
        variant: name of the variant to run; by default the one that the device chose, or that the bundle's verdict selected.
        threads: threads for one query; by default the number that the variant was measured with.
        watch: on a device, load each bundle that it switches to, without losing a call: `True`, or the seconds between two
            checks (`True`: 1). See `edgebert.bundle.watching_predictor.WatchingPredictor`.

    Raises:
        BundleError: the folder is not a bundle, a file was altered, or nothing serves on the device yet.
        TrustError: nobody who is trusted here signed the bundle.
        EnvironmentFault: no runtime here can open it.
        InputError: `threads` or `watch` is out of range, or there is nothing to watch.
    """
    if watch is False:
        from edgebert.bundle.predictor import load_predictor

        return load_predictor(Path(place), variant=variant, threads=threads)
    from edgebert.bundle.watching_predictor import watch_device

    return watch_device(Path(place), variant=variant, threads=threads, watch=watch)
