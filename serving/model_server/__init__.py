"""A model server that speaks TensorFlow Serving's API from a push directory."""
