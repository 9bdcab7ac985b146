"""Training: losses, fitting, and the search for better settings."""
