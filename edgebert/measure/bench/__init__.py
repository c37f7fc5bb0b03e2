"""Bench: measures models as they are, one beside the other: what they are, what they are asked, the report and its table."""
