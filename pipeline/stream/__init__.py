"""What `adclick stream` does: the config's part of it, and what a person sees."""
