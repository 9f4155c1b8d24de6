"""LinkGAN: groups of latent axes are linked to regions of the image (ICCV 2023, arXiv 2301.04604)."""
