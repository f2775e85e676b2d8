"""Measure the training speed of models."""
