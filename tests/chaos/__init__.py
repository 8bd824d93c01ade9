"""Stops a tiny study at every file event, runs it again, and compares with one that was never stopped.

`python -m tests.chaos` (`make chaos`) runs all of it; `test_chaos.py` a small sample of it with the other tests.
"""
