"""Where the state of features is kept: by key, in memory or on disk."""
