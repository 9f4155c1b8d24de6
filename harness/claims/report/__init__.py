"""The report of a claim, or of any runs: one self-contained HTML file."""
