"""data: data sets: how they are named, read, checked row by row, and kept as one Arrow file."""

from edgebert.core.former_names import attributes_of

__getattr__ = attributes_of(__name__, "prepared")
