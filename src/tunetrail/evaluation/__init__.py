"""lm-eval's IFEval task and checkers (ifeval/); results as scores with intervals."""
