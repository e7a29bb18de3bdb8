"""ServingValidator: loads the candidate as TensorFlow Serving does, and compares its answers."""
