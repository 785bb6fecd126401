"""Codemods of the JSON rules."""
