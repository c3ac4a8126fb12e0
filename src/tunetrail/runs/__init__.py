"""What is done with finished runs: list, compare, chat, reproduce, restore, free their space."""
