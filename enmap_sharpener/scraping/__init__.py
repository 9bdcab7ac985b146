"""Scraping: from a box on the map to files."""
