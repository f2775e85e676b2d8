"""The data sets: their folder, their files and the cached arrays."""
