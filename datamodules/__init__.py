"""One DataModule per protocol; `worlds` renders procedural data, `formats` reads data sets as distributed."""
