"""What is handed to Lightning: resume, checkpoints, sharding, global BatchNorm, loss guard, run log, W&B mirror."""
