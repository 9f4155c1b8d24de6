"""Tests of what every package may import."""
