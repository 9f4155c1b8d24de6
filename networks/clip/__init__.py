"""CLIP: images and texts in one space, by models of open_clip or the mini-CLIP of procedural worlds."""
