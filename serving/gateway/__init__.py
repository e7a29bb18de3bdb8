"""The ad API: click probabilities for the ads of a page, before any server of TensorFlow Serving's API."""
