"""Codemods of the rules for coroutines."""
