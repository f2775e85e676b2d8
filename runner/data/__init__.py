"""Find, download, check, parse and cache the data sets."""
