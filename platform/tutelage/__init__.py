"""tutelage: many teachers, one small student, kept current, on Ray."""

__version__ = "0.1.0"
