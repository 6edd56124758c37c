"""Tools for models. Each tool enforces its own limits; nothing here imports torch."""
