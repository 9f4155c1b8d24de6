"""Rendered objects at random places: the region that latents are linked to varies by image (linkgan §3.1)."""

from datamodules.segmented import SegmentedImages
from datamodules.worlds import objects


class PlacedObjects(SegmentedImages):
    """One colored object over a textured background, with the mask of the object."""

    world = objects
