"""The result for people (terminal) and for machines (JSON)."""
