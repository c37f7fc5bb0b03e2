"""Which share of the matrix products a runtime really executes in INT8."""
