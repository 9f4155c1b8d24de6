"""How experiments are executed. Knows no paper.

Seven packages, each importing only those before it: core, config, training, run, sweeps, claims, cli.
"""
