"""bundle: the folder that a device receives: written, read, self-tested, trusted, and predicted with. No torch."""
