"""report: raw measurements and what is read off them: metrics, gates, verdict, comparison, tables, page. Measures nothing."""

from edgebert.core.former_names import attributes_of

__getattr__ = attributes_of(__name__, "report")
