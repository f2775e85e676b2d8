"""One process that turns a bundle of jobs into records."""
