"""GeoD: a 3D-aware GAN whose discriminator also predicts geometry from images, which guides the generator."""
