"""Overrides with several values -> a parent run with a child for each job."""
