"""The tuner group: U-Tuning (arXiv 2303.00690) and what it unifies, attached to any frozen nn.Module."""
