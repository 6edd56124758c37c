"""People rank answers and review conversations, in the terminal or through a pipe."""
