"""What every package may import: no torch, nothing of this project."""
