"""Model folders: what they are, how they are loaded, cut and trained."""
