"""Chat with a model: sessions, the terminal, the web page, the server."""
