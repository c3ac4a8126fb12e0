"""`accelerate launch`, in the two processes that the real one has."""
