"""Start worker processes on this machine or through SLURM."""
