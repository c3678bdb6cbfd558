"""What rows of a table must be: read from its contract, compiled, judged by, and what changed in it."""
