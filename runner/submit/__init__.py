"""Plan the jobs of a suite, submit them and follow them."""
