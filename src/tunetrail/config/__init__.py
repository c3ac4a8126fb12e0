"""conf/ composed, checked, written to params.yaml."""
