"""Serving a pushed model: the model server, and a client for it or for TensorFlow Serving."""
