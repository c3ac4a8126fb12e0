"""lm-eval's task and checkers; results as scores with intervals."""
