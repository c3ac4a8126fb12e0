"""Tokens, steps, memory, time and cost of a run, predicted."""
