"""Diffusion at a fixed dimension: schedules, U-Nets, guidance and samplers on diffusers; its import comes late."""
