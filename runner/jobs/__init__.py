"""A job's files and its state."""
