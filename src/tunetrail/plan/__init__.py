"""What a run will take and cost, and why it is refused.

Nothing is fetched or trained for it.
"""
