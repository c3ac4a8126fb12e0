"""Finished runs: list, compare, chat, reproduce, restore, free their disk space."""
