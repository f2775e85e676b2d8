"""Run a bundle of jobs in one process and write a record for each."""
