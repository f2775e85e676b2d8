"""Start worker processes; nothing else."""
