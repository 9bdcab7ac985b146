"""Exploration: looking around with widgets."""
