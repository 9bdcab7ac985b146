"""Preprocessing: from pairs of scenes to data that networks learn from."""
