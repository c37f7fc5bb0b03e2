"""data: data sets: how they are named, read, checked row by row, and kept as one Arrow file."""
