"""Rewrite repositories of Python services for speed and size, and prove that nothing broke."""

__version__ = "0.1.0"
