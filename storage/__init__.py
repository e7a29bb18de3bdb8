"""Files and folders, here and in buckets: read, written whole or not at all, locked, and how they are laid out."""
