"""What the gateway shows to people: the console's JSON below `/console/api/`."""
