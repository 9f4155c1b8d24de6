"""GeoD: a 3D-aware GAN whose discriminator also reads geometry from images, and teaches it to the generator."""
