"""The version of edgebert."""

__version__ = "0.2.0"
