"""Finds what makes measurements unstable on this machine, and says how to mend it. Changes nothing itself."""
