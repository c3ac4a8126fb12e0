"""What is wrong with a planned run and how to fix it: a function a rule, judge.py decides."""
