"""What a search may change, a file each; `space.py` says what a space is, `search/` is the search itself."""
