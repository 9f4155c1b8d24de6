"""GANs in plain torch: StyleGAN2, 3D-aware generators, and what training and sampling them needs."""
