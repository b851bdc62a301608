"""What teachers send, how it is checked, and where it is kept."""
