"""Rules that move work out of the processes that serve."""
