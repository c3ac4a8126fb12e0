"""What a run will take and cost, and why it is refused.

Worked out before anything is fetched, trained or imported for it.
"""
