"""The ten papers, a folder each: `module.py` is the algorithm, the files beside it its own maths in plain torch."""
