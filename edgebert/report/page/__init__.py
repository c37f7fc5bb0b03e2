"""Room page/: reports become one HTML page. Data -> tables and plotly figures -> sections -> page, each in its own files.

Nothing here measures or judges: numbers come from report.py, verdicts from verdict.py. plotly and jinja2 are used to render.
"""
