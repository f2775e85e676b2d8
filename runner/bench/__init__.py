"""Measure the speed of a model's training."""
