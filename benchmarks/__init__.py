"""Programs that measure. Nothing here asserts a time."""
