"""What is wrong with a planned run and how to fix it: one function per rule; plan/gate.py decides."""
