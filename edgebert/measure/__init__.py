"""Measures what models do: predictions, latency in fresh processes, memory, and the machine that it happened on."""
