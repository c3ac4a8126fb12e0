"""Overrides with several values -> one parent run, one child run for each job."""
