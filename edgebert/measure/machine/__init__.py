"""The machine that a measurement happens on: its CPU, heat, energy, memory and limits."""
