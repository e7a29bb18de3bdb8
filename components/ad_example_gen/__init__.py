"""AdExampleGen: one month's CSV files and images become examples, creatives and quarantine."""
