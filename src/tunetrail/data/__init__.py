"""Rows, prompts, template, the demo's world; what the data are."""
