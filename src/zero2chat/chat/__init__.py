"""Talking to a model: a session, the terminal, the next-token view."""
