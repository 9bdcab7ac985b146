"""Evaluation: how good a result is."""
