"""The files of a job and its state."""
