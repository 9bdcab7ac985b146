"""Core: what everything stands on, and knows nothing of EnMAP."""
