"""Readers of data sets exactly as they are distributed."""
