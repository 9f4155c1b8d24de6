"""A claim: its runs and arms, verdict, conclusion, report and dashboard."""
