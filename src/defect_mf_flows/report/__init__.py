"""The report: one self-contained HTML page and a summary for the terminal."""
