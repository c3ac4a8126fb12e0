"""What is wrong with a planned run, a function a rule, and how to fix it."""
