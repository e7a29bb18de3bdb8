"""AdExampleGen: one month's rows and images become examples, creatives and quarantine."""
