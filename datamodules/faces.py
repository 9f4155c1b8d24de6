"""Rendered, aligned faces with a segmentation and all factors: what latents are linked to regions of (linkgan §3.1)."""

from datamodules.segmented import SegmentedImages
from datamodules.worlds import faces


class AlignedFaces(SegmentedImages):
    """Soft ellipses with background, skin, eyes, mouth and hair; eyes and mouth stay within fixed boxes."""

    world = faces
