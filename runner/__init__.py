"""Runs jobs: plan, start, train, record, track."""
