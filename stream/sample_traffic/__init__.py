"""Traffic whose truth is known: honest users, what looks like fraud and is not, and six kinds of fraud."""
