"""Weights by path, in every form in which they are distributed: the only reader of files from outside this project."""
