"""Learning from new data without losing the old: importance of weights, penalties, replay, gates."""
