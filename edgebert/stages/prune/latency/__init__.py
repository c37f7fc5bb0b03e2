"""Latency tables: milliseconds of attention heads and FFN neurons on a target, measured once on each machine."""
