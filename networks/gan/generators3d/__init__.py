"""3D-aware generators behind one interface: tri-planes and pi-GAN, their volume renderer, samples and surfaces."""
