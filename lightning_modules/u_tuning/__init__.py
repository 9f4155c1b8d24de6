"""Rethinking Efficient Tuning Methods from a Unified Perspective (U-Tuning, arXiv 2303.00690)."""
