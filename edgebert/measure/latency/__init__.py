"""Latency in fresh processes, models in alternating rounds, under each scenario of load."""
