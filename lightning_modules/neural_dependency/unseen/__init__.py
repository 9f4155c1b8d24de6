"""Categories that the network was never trained on: their logits as combinations of the known ones."""
