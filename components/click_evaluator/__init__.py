"""Judges a candidate on held-out impressions, beside the last blessed model."""
