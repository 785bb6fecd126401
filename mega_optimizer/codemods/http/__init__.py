"""Codemods of the HTTP client rules."""
