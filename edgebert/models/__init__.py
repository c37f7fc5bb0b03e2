"""bert: what is done to the network itself, in torch: surgery, importance, search, repair, losses. Pure functions."""

from edgebert.core.former_names import attributes_of

__getattr__ = attributes_of(__name__, "load")
