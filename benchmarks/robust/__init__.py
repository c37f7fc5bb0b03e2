"""The parts of `benchmarks/robustness.py`, a file each."""
