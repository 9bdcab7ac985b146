"""Batch: many scenes, here or on a cluster."""
