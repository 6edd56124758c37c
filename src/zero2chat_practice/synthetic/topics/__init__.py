"""Topics: about the same things, problems with different calculations."""
