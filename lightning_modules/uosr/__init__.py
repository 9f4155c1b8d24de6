"""UOSR: unified open-set recognition (arXiv 2302.04002)."""
