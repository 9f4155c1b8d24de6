"""One run: dependencies, processes, objects, training, test, result."""
