"""The report of a run: its figures as frozen models, and one self-contained HTML page made of them."""
