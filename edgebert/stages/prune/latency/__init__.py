"""The table of what attention heads and FFN neurons cost on a target, in milliseconds, measured once on each machine."""
