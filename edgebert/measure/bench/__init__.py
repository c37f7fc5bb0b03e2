"""Bench: measures models as they are, side by side: the models, their queries, the plan, the run and the report's file."""
