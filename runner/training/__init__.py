"""Train one model: the loop and everything that it calls."""
