"""Run jobs: plan, start, train, record, track."""
