"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# No test is timed: machines are shared, and a slow one is not a wrong one.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
