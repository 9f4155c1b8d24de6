"""What dependencies are worth: errors, controls, emergence with the number of categories, and their graph."""
