"""Checks of this machine and its services."""
