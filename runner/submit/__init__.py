"""From a suite to jobs, and following them."""
