"""Codemods of the database rules."""
