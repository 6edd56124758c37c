"""Chat with a model: in the terminal, on a web page, or through a server."""
