"""Codemods of the serving rules."""
