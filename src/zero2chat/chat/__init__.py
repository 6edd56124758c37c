"""Talking to a model: the terminal, the page, the server."""
