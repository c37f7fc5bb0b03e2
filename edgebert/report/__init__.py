"""report: raw measurements and what is read off them: metrics, gates, verdict, comparison, tables, page. Measures nothing."""
