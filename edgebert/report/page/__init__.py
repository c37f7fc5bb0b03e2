"""Reports as one HTML page: a file for each section makes its tables and plotly figures, page.py renders all of them.

Nothing here measures or judges: numbers come from report.py, verdicts from verdict.py and compare/. Rendering needs plotly
and jinja2.
"""
