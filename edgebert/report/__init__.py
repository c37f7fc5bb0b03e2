"""report: raw measurements, and metrics, gates, verdict, comparison, tables and page made of them. It measures nothing."""

from edgebert.core.former_names import attributes_of

__getattr__ = attributes_of(__name__, "report")
