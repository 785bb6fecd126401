"""Tests that install torch: ``make test-ml``, not part of ``make test``."""
