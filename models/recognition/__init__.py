"""The eye of devices: an embedder that knows a creative again as a camera or a screenshot gives it."""
