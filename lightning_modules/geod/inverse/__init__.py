"""The geometry branch: an inverse renderer as in Unsup3D and what trains it, or a frozen depth model in its place."""
