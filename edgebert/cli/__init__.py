"""Verbs of the command line that measure: a file each. `cli.py` registers them."""
