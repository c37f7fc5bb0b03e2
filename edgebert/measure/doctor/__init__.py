"""Says what on this machine makes measurements unstable, and what to do about it. Changes nothing itself."""
