"""DVDP: Dimensionality-Varying Diffusion Process (CVPR 2023, arXiv 2211.16032)."""
