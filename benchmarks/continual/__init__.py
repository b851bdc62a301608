"""Continual learning on public data: accuracy of each method, and the speed of its parts."""
