"""Reconstruction: the files that a user gets."""
