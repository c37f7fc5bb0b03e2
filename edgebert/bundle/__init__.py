"""bundle: the folder that a device receives: how it is written, signed, read, self-tested and predicted with. No torch."""

from edgebert.core.former_names import attributes_of

__getattr__ = attributes_of(__name__, "read", "write", "self_test", "parts")
