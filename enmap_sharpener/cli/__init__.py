"""Command line: thin commands."""
