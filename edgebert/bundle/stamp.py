"""stamp: a quantised graph says who made it and from which recipe, in the places that its format has for that.

It is done where a graph is packed, so that the file in the store, which many recipes share, stays as it is. Weights and nodes
are not touched, and the same recipe gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

from edgebert.runtimes.facts import Container
from edgebert.version import __version__


def stamp(file: Path, container: Container, recipe: str) -> None:
    """Writes edgebert, its version and the recipe's hash into a graph's file; a format without a place for them stays as it is.

    Args:
        recipe: sha256 of the recipe.
    """
    if container == "onnx":
        _stamp_onnx(file, recipe)
    elif container == "xml":
        _stamp_ir(file, recipe)


def _stamp_onnx(file: Path, recipe: str) -> None:
    import onnx

    model = onnx.load(file, load_external_data=False)
    model.producer_name, model.producer_version = "edgebert", __version__
    model.doc_string = f"recipe sha256:{recipe}"
    onnx.save(model, file)


def _stamp_ir(file: Path, recipe: str) -> None:
    """OpenVINO keeps facts about the model as a whole that it does not know, and `get_rt_info` returns them."""
    layers, end, whole = file.read_bytes().rpartition(b"</edges>")
    facts = f"<edgebert><version value={quoteattr(__version__)} /><recipe value={quoteattr(f'sha256:{recipe}')} /></edgebert>"
    before, found, after = whole.partition(b"<rt_info>")
    if found:
        whole = before + found + facts.encode() + after
    else:
        whole = whole.replace(b"</net>", f"<rt_info>{facts}</rt_info></net>".encode())
    file.write_bytes(layers + end + whole)
