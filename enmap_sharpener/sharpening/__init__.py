"""Sharpening: one interface for every method."""
