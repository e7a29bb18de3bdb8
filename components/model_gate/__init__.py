"""ModelGate: where a run ends that must not push its model."""
