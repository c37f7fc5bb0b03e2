"""`python -m edgebert` is `edgebert`."""

from edgebert.cli.main import main

main()
