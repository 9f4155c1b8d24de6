"""CLIP-FSAR: CLIP-guided prototype modulation for few-shot action recognition (IJCV 2023, arXiv 2303.02982)."""
