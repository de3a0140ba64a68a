"""The training experiments' parts: data, networks, methods, the loop, corruptions, cost, and tables of results."""
