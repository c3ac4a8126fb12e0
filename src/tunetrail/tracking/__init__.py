"""MLflow: where the record is, writing a run, finding one, the model registry."""
