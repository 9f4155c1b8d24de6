"""Evaluation of a LinkGAN generator: what its links hold, what leaks, and how good plain and edited images are."""
