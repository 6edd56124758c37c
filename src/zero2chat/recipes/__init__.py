"""A recipe as a graph of steps, and what runs it."""
