"""Simulation: a scene whose truth is known."""
