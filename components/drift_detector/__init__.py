"""Measures how far the newest month moved from the months of the window before it."""
