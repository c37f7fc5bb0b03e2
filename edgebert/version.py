"""The version of edgebert."""

__version__ = "0.1.0"
