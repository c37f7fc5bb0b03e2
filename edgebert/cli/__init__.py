"""The command line: one file a verb, each one library call. main.py registers them."""
