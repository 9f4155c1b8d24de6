"""Uncertainty scores: post-hoc ones of a trained classifier, and few-shot ones with references."""
