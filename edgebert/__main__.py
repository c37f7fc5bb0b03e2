"""`python -m edgebert` is `edgebert`."""

from edgebert.cli.main import entry

entry()
