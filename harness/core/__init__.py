"""What everything else stands on: paths, ranks, the process, SLURM, the screen, a run's folder and its lock file."""
