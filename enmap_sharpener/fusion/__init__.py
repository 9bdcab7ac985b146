"""Fusion: the default method, from two images to coefficients at 10 m."""
