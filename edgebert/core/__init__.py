"""core: what every room may use: the store, YAML, progress, interrupts, atomic writes, packages."""
