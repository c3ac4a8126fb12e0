"""conf/ composed, every key and file checked, written to params.yaml."""
