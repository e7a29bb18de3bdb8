"""The pipeline on Vertex AI Pipelines and on Kubeflow Pipelines: compiled, submitted, scheduled."""
