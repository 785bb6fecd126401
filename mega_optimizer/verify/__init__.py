"""Prove that a plan broke nothing: results parse, and a second run changes nothing."""
