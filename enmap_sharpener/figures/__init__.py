"""Figures: how every picture looks."""
