"""The fixed network in whose features generated images of a procedural world are compared with real ones."""
