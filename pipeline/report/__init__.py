"""The report of a run: one HTML page that needs nothing else, for the people who answer for the model."""
