"""A report as rows of text, for the terminal and the model card."""
