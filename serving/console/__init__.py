"""What the gateway shows to people: the console, a page at `/` and its JSON below `/console/api/`."""
