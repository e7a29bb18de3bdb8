"""Synthetic monthly drops whose true click probability is known, and the metrics that score a model against it."""
