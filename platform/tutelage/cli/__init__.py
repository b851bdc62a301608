"""The command line: the top layer, and the only owner of the terminal."""
