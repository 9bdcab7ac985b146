"""Insights: a look into a network."""
