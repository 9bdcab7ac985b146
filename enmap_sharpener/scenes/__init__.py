"""Scenes: what a scene is, on disk and in memory."""
