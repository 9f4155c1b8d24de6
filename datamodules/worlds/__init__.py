"""Procedural worlds: images drawn from a seed, with every attribute of every image known."""
