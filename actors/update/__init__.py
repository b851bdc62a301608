"""One increment of continual learning, from new data to a judged candidate and its state."""
