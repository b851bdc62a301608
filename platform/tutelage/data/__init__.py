"""Sources, canonical rows, tokenised examples and batches. Loads neither ray nor torch."""
