"""The quantisation methods. Adding one: a file here, a line in METHODS, a test file."""

from __future__ import annotations

from edgebert.stages.quantize.dynamic import Dynamic
from edgebert.stages.quantize.method import Method
from edgebert.stages.quantize.neural_compressor import NeuralCompressor
from edgebert.stages.quantize.nncf import Nncf
from edgebert.stages.quantize.nncf_accuracy import NncfAccuracy
from edgebert.stages.quantize.static import Static
from edgebert.stages.quantize.weight_only import WeightOnly

METHODS: tuple[type[Method], ...] = (
    Dynamic,
    Static,
    Nncf,
    NncfAccuracy,
    NeuralCompressor,
    WeightOnly,
)


def get_method(name: str) -> type[Method]:
    """The method of that name."""
    return next(method for method in METHODS if method.method_name() == name)


def searched_methods(graph_format: str) -> list[type[Method]]:
    """Methods for a format of graphs that `auto` tries, the one that it starts with first; those that use the score count."""
    return [method for method in METHODS if method.format == graph_format and (method.searched or method.scored)]


def usual_method(graph_format: str) -> type[Method] | None:
    """The first method that `auto` tries for a format: the others' speed is relative to it. None where it tries none."""
    return next((method for method in searched_methods(graph_format) if method.searched), None)


def owners_of(parameter: str) -> list[str]:
    """Names of the methods that have a parameter."""
    return [method.method_name() for method in METHODS if parameter in method.parameters()]
