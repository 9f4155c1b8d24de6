"""Where the project's own files lie."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
# Verdicts as committed; a claim's own folder below runs/ may hold newer ones.
RESULTS = ROOT / "docs" / "results"
