"""A student that is kept current: what a round of updates needs beside distillation."""
