"""edgebert: a fine-tuned BERT in, the fastest INT8 model that still passes its gates out.

    run = edgebert.compress("recipe.yaml")
    edgebert.load(run.bundle)("a fine film")

What else there is, is imported when it is first used: `import edgebert` is quick, and brings no torch.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebert.core.former_names import forward_former_names
from edgebert.version import __version__

if TYPE_CHECKING:
    from edgebert.bundle.predictor import Predictor
    from edgebert.compress import CompressRoom
    from edgebert.compress.call import plan
    from edgebert.compress.plan import Plan
    from edgebert.compress.recipe import Recipe
    from edgebert.compress.run import Run
    from edgebert.errors import EdgebertError
    from edgebert.measure.bench.call import bench
    from edgebert.models.convert import convert
    from edgebert.report.compare.call import compare
    from edgebert.report.compare.findings import Comparison
    from edgebert.report.file import read_report
    from edgebert.report.report import Report
    from edgebert.report.verdict import Verdict

    compress: CompressRoom
else:
    from edgebert import compress  # the room, which can be called; it imports nothing

# ONNX Runtime's builds for Linux and macOS send telemetry to Microsoft unless this is set when they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
forward_former_names()

__all__ = [
    "Comparison",
    "EdgebertError",
    "Plan",
    "Predictor",
    "Recipe",
    "Report",
    "Run",
    "Verdict",
    "__version__",
    "bench",
    "compare",
    "compress",
    "convert",
    "load",
    "plan",
    "read_report",
]
PLACES = {
    "Comparison": "report.compare.findings",
    "EdgebertError": "errors",
    "Plan": "compress.plan",
    "Predictor": "bundle.predictor",
    "Recipe": "compress.recipe",
    "Report": "report.report",
    "Run": "compress.run",
    "Verdict": "report.verdict",
    "bench": "measure.bench.call",
    "compare": "report.compare.call",
    "convert": "models.convert",
    "plan": "compress.call",
    "read_report": "report.file",
}
"""Name -> the module that has it, which is imported when the name is first used."""


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{PLACES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(
    place: str | Path,
    *,
    variant: str | None = None,
    threads: int | None = None,
    spinning: bool | None = None,
    watch: bool | float = False,
) -> Predictor:
    """Opens a model for prediction: `edgebert.load("runs/quickstart/bundle")("a fine film")`.

    Args:
        place: folder of a bundle, as `edgebert compress` writes it; or on a device the folder that `edgebert ship` fills, or
            its `current`. The link is followed once: a later switch changes nothing for this predictor, unless it watches.
        variant: name of the variant to run; by default the one that the device chose, or that the bundle's verdict selected.
        threads: threads for one query; by default the number that the variant was measured with.
        spinning: whether several threads wait for work in a loop, which ONNX Runtime's do by default; `False` where other
            programs need the cores. By default as the variant was measured, so that it is as fast as its report says.
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

        return load_predictor(Path(place), variant=variant, threads=threads, spinning=spinning)
    from edgebert.bundle.watching_predictor import watch_device

    return watch_device(Path(place), variant=variant, threads=threads, spinning=spinning, watch=watch)
