"""Rules about machine-learning services."""
