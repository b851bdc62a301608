"""The report of a search: its figures as frozen models, and one self-contained HTML page made of them."""
