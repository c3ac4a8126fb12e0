"""This machine and its services, a line a check."""
