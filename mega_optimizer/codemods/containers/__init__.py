"""Codemods of the container rules."""
