"""A small run that tests of shipping share: compressed once in each process of tests."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

from conftest import RECIPE, write_reviews

from edgebert.core.store import ArtifactStore


@functools.cache
def compressed_run(model: Path) -> Path:
    """The run's folder of a bundle with FP32 and INT8 for ONNX Runtime, 0.2 MB, made once of a model folder of the session,
    beside it. Do not write into it."""
    from edgebert.compress.recipe_file import load_recipe
    from edgebert.compress.run import compress
    from edgebert.core.progress import Silent

    folder = model.parent / "shipped"
    folder.mkdir()
    shutil.copytree(model, folder / "model")
    write_reviews(folder / "data")
    (folder / "recipe.yaml").write_text(RECIPE)
    file = load_recipe(str(folder / "recipe.yaml"), ["measure={rounds: 1, queries: 16, warmup: 1, goldens: 2}"])
    compress(file, store=ArtifactStore(folder / "store"), out=folder / "runs" / "recipe", progress=Silent())
    return folder / "runs" / "recipe"
