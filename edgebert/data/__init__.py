"""data: data sets, how they are named, read, checked row by row, kept as one Arrow file, and compared for drift."""

from edgebert.core.former_names import attributes_of

__getattr__ = attributes_of(__name__, "prepared")
