"""Spaces that distillation depends on, and the search in them on Ray Tune."""
