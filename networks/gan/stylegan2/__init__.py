"""StyleGAN2 (Karras et al. 2020), with the names of stylegan2-ada-pytorch, and the parts of its training."""
