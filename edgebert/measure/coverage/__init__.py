"""The share of the matrix products that a runtime really executes in INT8."""
