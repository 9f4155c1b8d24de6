"""Cones: Concept Neurons in Diffusion Models for Customized Generation (ICML 2023, arXiv 2303.05125)."""
