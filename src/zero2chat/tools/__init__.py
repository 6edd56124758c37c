"""What a model may call. Each tool bounds itself, as no loop that calls it does; nothing here imports torch."""
