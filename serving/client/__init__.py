"""A client of TensorFlow Serving's REST API."""
