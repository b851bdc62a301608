"""The report of an update: what a candidate gained, what it forgot, and what kept the old."""
