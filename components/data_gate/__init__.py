"""DataGate: stops the run before training when a month's data is not fit for it."""
