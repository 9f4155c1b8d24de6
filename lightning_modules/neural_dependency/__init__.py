"""Neural Dependencies Emerging from Learning Massive Categories (CovLasso, arXiv 2211.12339)."""
