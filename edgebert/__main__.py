"""`python -m edgebert` is `edgebert`."""

from edgebert.cli import main

main()
