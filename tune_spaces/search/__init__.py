"""The search itself: `run.py` from beginning to end, and one file for each thing that it does."""
