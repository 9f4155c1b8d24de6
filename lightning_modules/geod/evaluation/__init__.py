"""The evaluation of GeoD: errors of predicted and of generated geometry, distances of images, and figures."""
