"""Model: supErMAPnet, and the data as it takes them."""
