"""CopyDetector: finds a month's rows that stand in an earlier month, in another file, or in training too."""
